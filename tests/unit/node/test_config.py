"""The node's configuration: the file of the docs is read, and mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from skywire_common.curve import SecretKey
from skywire_common.runtime.config import ConfigError, load
from skywire_common.runtime.scope import Scope
from skywire_node import config, node
from skywire_node.apps import limits
from skywire_node.config import NodeSettings

KEYS = [SecretKey.generate() for _ in range(4)]
NODE, DISCOVERY, SETUP, REMOTE = (str(key.public) for key in KEYS)


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "node.key"
    key.touch(mode=0o600)
    key.write_text(KEYS[0].to_bytes().hex())
    return {
        "node": {"static_public_key": NODE, "static_secret_key_file": str(key)},
        "transport_discovery": {"address": "127.0.0.1:9", "public_key": DISCOVERY},
        "setup_nodes": [{"address": "127.0.0.1:10", "public_key": SETUP}],
        "trusted_nodes": [REMOTE],
        "transports": [{"public_key": REMOTE, "type": "tcp", "public": True, "address": "127.0.0.1:11"}],
        "apps": [
            {"app": "chat", "version": "1.0", "auto_start": True, "port": 1, "args": ["-v"], "env": {"HOME": "/"}},
            {"app": "helloworld", "version": "1.0", "auto_start": False, "port": 80},
        ],
        "apps_path": str(tmp_path / "apps"),
        "local_path": str(tmp_path / "local"),
        "log_level": "debug",
        "interfaces": {
            "link": "127.0.0.1:0",
            "control": "127.0.0.1:0",
            "metrics": "127.0.0.1:0",
            "admin": str(tmp_path / "admin.sock"),
        },
    }


def read(tmp_path: Path, document: dict[str, Any]) -> NodeSettings:
    file = tmp_path / "node.json"
    file.write_text(json.dumps(document))
    return load(NodeSettings, file)


def test_a_whole_file(tmp_path: Path, document: dict[str, Any]) -> None:
    settings = read(tmp_path, document)
    assert settings.node.secret().public == KEYS[0].public
    assert settings.trusted() == {KEYS[3].public}
    assert settings.apps[0].executable == "chat.v1.0"
    assert settings.apps[1].args == ()
    assert settings.transports[0].address == "127.0.0.1:11"
    assert settings.limits.idle_limit_s is None
    assert settings.log_level == "debug"


def test_the_least_file(tmp_path: Path, document: dict[str, Any]) -> None:
    least = {name: document[name] for name in ("node", "transport_discovery")}
    del least["node"]["static_public_key"]
    least["interfaces"] = {"admin": str(tmp_path / "admin.sock")}
    settings = read(tmp_path, least)
    assert settings.trusted() == frozenset()
    assert settings.interfaces.link == "127.0.0.1:0"


def test_the_environment_overrules_the_file(
    tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYWIRE_INTERFACES__LINK", "0.0.0.0:7000")
    assert read(tmp_path, document).interfaces.link == "0.0.0.0:7000"


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        pytest.param("node.static_public_key", REMOTE, "static_public_key is not the key", id="static_public_key"),
        ("node.static_secret_key_file", "/nowhere/at/all", "No such file"),
        ("node.static_secret_key_file", "/usr", "/usr is a directory, not a key file"),
        ("apps_path", __file__, f"apps_path: {__file__} is a file, not a directory"),
        ("local_path", f"{__file__}/under/it", f"local_path: {__file__} is a file, not a directory"),
        ("interfaces.admin", "/usr", "interfaces.admin: /usr is a directory, not a socket"),
        ("interfaces.admin", __file__, f"interfaces.admin: {__file__} is a file, not a socket"),
        ("interfaces.admin", f"{__file__}/a.sock", f"interfaces.admin: {__file__} is a file, not a directory"),
        ("apps.1.port", 1, "apps chat and helloworld both want port 1"),
        ("apps.1.port", 3, "it is reserved for socksproxy"),
        ("transports.0.type", "carrier-pigeon", "there are: grpc, tcp"),
        ("transport_types", [{"type": "grpc", "listn": "127.0.0.1:0"}], "the nearest is listen"),
        (
            "interfaces",
            {"admin": "a.sock", "link": "127.0.0.1:7000", "control": "127.0.0.1:7000"},
            "interfaces.link and interfaces.control both want 127.0.0.1:7000",
        ),
        ("interfaces.admin_remote", {"listen": "127.0.0.1:0", "token_file": "/nowhere"}, "No such file"),
        ("apps.1.port", 49152, "apps.1.port"),
        ("apps.1.app", "chat", "app chat is named twice"),
        ("apps.1.app", "../chat", "apps.1.app"),
        ("apps.1.version", "1/2", "apps.1.version"),
        ("transports.0.type", "dmsg", "transports.0.type"),
        ("transports.0.adress", "127.0.0.1:1", "the nearest is address"),
        ("setup_nodes.0.address", "127.0.0.1", "HOST:PORT"),
        ("trusted_nodes", ["AB"], "66 lower-case hex digits"),
        ("interfaces.admin", "/" + "a" * 120, "at most 107 bytes"),
        ("limits", {"idle_limit_s": 1}, "limits.idle_limit_s"),
        ("log_level", "loud", "log_level"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, document: dict[str, Any], where: str, value: object, says: str) -> None:
    place: Any = document
    *path, last = where.split(".")
    for part in path:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, document)
    assert says in str(caught.value)
    assert KEYS[0].to_bytes().hex() not in str(caught.value)


def test_the_paths_by_default_are_checked_too(
    tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del document["local_path"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="local_path: local is a link to nothing, not a directory"):
        read(tmp_path, document)
    (tmp_path / "nowhere").mkdir()
    assert read(tmp_path, document).local_path == Path("local")


async def test_a_directory_that_cannot_be_made_is_an_error_of_the_configuration(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    settings = read(tmp_path, document)
    (tmp_path / "local").touch()  # since it was checked
    with pytest.raises(ConfigError, match=r"^local_path: .*/local: File exists$"):
        await node.start(settings, Scope(structlog.get_logger(), 1.0))


@pytest.mark.parametrize("plain_text", [False, True])
def test_the_owners_token_never_leaves_the_machine_in_plain_text(
    tmp_path: Path, document: dict[str, Any], plain_text: bool
) -> None:
    held = tmp_path / "token"
    held.touch(mode=0o600)
    held.write_text("x" * 40)
    remote: dict[str, Any] = {"listen": "0.0.0.0:7300", "token_file": str(held)}
    document["interfaces"]["admin_remote"] = remote
    document["plain_text"] = plain_text
    with pytest.raises(ConfigError, match="over TLS only"):
        read(tmp_path, document)
    remote["tls"] = {"ca": "ca.pem"}
    with pytest.raises(ConfigError, match="over TLS only"):
        read(tmp_path, document)
    remote["listen"] = "[::1]:7300"
    assert read(tmp_path, document).interfaces.admin_remote is not None
    held.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read(tmp_path, document)


@pytest.mark.parametrize(
    ("where", "most"),
    [
        ("apps", config.MAX_APPS),
        ("transports", config.MAX_TRANSPORTS),
        ("transport_types", config.MAX_TYPES),
        ("setup_nodes", config.MAX_SETUP_NODES),
    ],
)
def test_lists_are_bounded(tmp_path: Path, document: dict[str, Any], where: str, most: int) -> None:
    document[where] = (document.get(where) or [{"type": "grpc"}])[:1] * (most + 1)
    with pytest.raises(ConfigError, match=f"{where}: .*at most {most} items"):
        read(tmp_path, document)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("loops", limits.MAX_LOOPS),
        ("backlog", limits.BACKLOG),
        ("queued_bytes", limits.MAX_QUEUED),
        ("frames_per_second", 10 * limits.MAX_FRAMES_PER_S),
    ],
)
def test_what_an_app_may_take_is_bounded(tmp_path: Path, document: dict[str, Any], name: str, most: int) -> None:
    document["apps"][0]["limits"] = {name: most}
    assert getattr(read(tmp_path, document).apps[0].limits, name) == most
    document["apps"][0]["limits"] = {name: most + 1}
    with pytest.raises(ConfigError, match=rf"limits\.{name}: .*less than or equal to {most}"):
        read(tmp_path, document)


def test_what_an_app_may_take_is_bounded_without_a_word_about_it() -> None:
    said = config.AppLimits()
    held = limits.Limits()
    assert (said.loops, said.backlog) == (held.loops, held.backlog) == (limits.MAX_LOOPS, limits.BACKLOG)
    assert said.queued_bytes == held.queued == limits.MAX_QUEUED
    assert said.frames_per_second == held.frames_per_s == limits.MAX_FRAMES_PER_S


def test_two_transports_alike_are_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    document["transports"] *= 2
    with pytest.raises(ConfigError, match="two transports to the same node"):
        read(tmp_path, document)
