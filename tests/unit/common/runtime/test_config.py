"""Configuration: file and environment, every mistake named, no value repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator
from skywire_common.curve import SecretKey
from skywire_common.runtime.config import (
    MAX_ADDRESSES,
    MAX_FILE_SIZE,
    Address,
    ConfigError,
    HexKey,
    KeyFile,
    ListenAddress,
    Open,
    Peer,
    Section,
    ServiceSettings,
    TlsFiles,
    load,
)


class Interfaces(Section):
    grpc: ListenAddress = "127.0.0.1:0"
    metrics: ListenAddress = "127.0.0.1:0"


class Settings(ServiceSettings):
    interfaces: Interfaces = Interfaces()
    peers: tuple[Peer, ...] = ()
    trusted: tuple[HexKey, ...] = ()
    named: dict[str, Peer] = Field(default_factory=dict)
    tls: TlsFiles | None = None
    secret_key_file: KeyFile | None = None
    upstream: Address | None = None


class Strict(ServiceSettings):
    secret_key_file: KeyFile


KEY = SecretKey.generate().public


class Contradictory(ServiceSettings):
    least: int
    most: int

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least > self.most:
            raise ValueError("least is over most")
        return self


def write(tmp_path: Path, document: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def refusal(tmp_path: Path, document: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Settings, write(tmp_path, document))
    return str(caught.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    peer = {"address": "10.0.0.1:7000", "public_key": str(KEY)}
    loaded = load(
        Settings,
        write(
            tmp_path,
            {"log_level": "debug", "interfaces": {"grpc": "0.0.0.0:7000"}, "peers": [peer], "trusted": [str(KEY)]},
        ),
    )
    assert loaded.log_level == "debug"
    assert loaded.interfaces == Interfaces(grpc="0.0.0.0:7000", metrics="127.0.0.1:0")
    assert loaded.peers[0].public_key == KEY
    assert loaded.trusted == (KEY,)
    assert loaded.grace_s == 10


def test_the_environment_overrules_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYWIRE_LOG_LEVEL", "warning")
    monkeypatch.setenv("SKYWIRE_INTERFACES__METRICS", "127.0.0.1:9")
    monkeypatch.setenv("SKYWIRE_TRUSTED", json.dumps([str(KEY)]))
    loaded = load(Settings, write(tmp_path, {"log_level": "debug", "interfaces": {"grpc": "127.0.0.1:7"}}))
    assert loaded.log_level == "warning"
    assert loaded.interfaces == Interfaces(grpc="127.0.0.1:7", metrics="127.0.0.1:9")
    assert loaded.trusted == (KEY,)


def test_without_a_file_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYWIRE_LOG_LEVEL", "error")
    assert load(Settings, None).log_level == "error"


@pytest.mark.parametrize(
    ("document", "unknown", "nearest"),
    [
        ({"log_lvel": "info"}, "log_lvel", "log_level"),
        ({"interfaces": {"grcp": "127.0.0.1:0"}}, "interfaces.grcp", "grpc"),
        ({"peers": [{"adress": "a:1", "public_key": str(KEY)}]}, "peers.0.adress", "address"),
        ({"named": {"one": {"public-key": str(KEY), "address": "a:1"}}}, "named.one.public-key", "public_key"),
        ({"tls": {"cert": "x"}}, "tls.cert", "certificate"),
        ({"_env_file": "x"}, "_env_file", "secret_key_file"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest(tmp_path: Path, document: Any, unknown: str, nearest: str) -> None:
    said = refusal(tmp_path, document)
    assert f"no key {unknown}" in said
    assert f"the nearest is {nearest}" in said


def test_a_key_that_stands_at_the_wrong_place_is_found_and_nothing_is_said_where_nothing_is_near(
    tmp_path: Path,
) -> None:
    mistakes = refusal(tmp_path, {"grcp": "x", "public_keys": "x", "zzz": 1}).partition(": ")[2]
    said = mistakes.split("; no key ")
    assert said[0] == "no key grcp; the nearest is interfaces.grpc"
    assert said[1:] == ["public_keys; the nearest is peers.public_key", "zzz"]


def test_a_mistake_of_the_whole_begins_with_what_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, {"least": 2, "most": 1})
    with pytest.raises(ConfigError) as refused:
        load(Contradictory, path)
    assert str(refused.value) == f"{path}: least is over most"


def test_an_unknown_key_in_the_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYWIRE_INTERFACES__GRCP", "127.0.0.1:0")
    assert "no key interfaces.grcp; the nearest is grpc" in refusal(tmp_path, {})


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    said = refusal(
        tmp_path,
        {
            "log_level": "loud",
            "interfaces": {"grpc": "nowhere"},
            "trusted": ["02ab"],
            "upstream": "a:0",
            "grace_s": 601,
        },
    )
    for part in ("log_level: ", "interfaces.grpc: an address is HOST:PORT", "trusted.0: a public key is", "grace_s"):
        assert part in said
    only_listeners_may_say_0 = "upstream: an address is HOST:PORT, and a port is a number from 1 to 65535"
    assert only_listeners_may_say_0 in said


def test_a_missing_key_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret_key_file is missing"):
        load(Strict, write(tmp_path, {}))


def test_no_value_is_repeated(tmp_path: Path) -> None:
    secret = "5ec7e7" * 10
    said = refusal(
        tmp_path,
        {
            "secret_key": secret,
            "log_level": secret,
            "trusted": [secret],
            "interfaces": secret,
            "peers": [{"address": secret, "public_key": secret}],
            "grace_s": secret,
            "upstream": secret,
        },
    )
    assert secret not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ('{"log_level": "info",}', "not JSON"),
        ("[]", "a JSON object"),
        ("", "not JSON"),
        (" " * (MAX_FILE_SIZE + 1), "at most"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert said in message
    assert "config.json" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        load(Settings, tmp_path / "none.json")
    with pytest.raises(ConfigError, match="directory"):
        load(Settings, tmp_path)


def test_a_key_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(SecretKey.generate().to_bytes().hex() + "\n")
    path.chmod(0o600)
    document = {"secret_key_file": str(path)}
    loaded = load(Settings, write(tmp_path, document)).secret_key_file
    assert loaded == path
    path.chmod(0o640)
    assert "chmod 600" in refusal(tmp_path, document)
    path.chmod(0o600)
    for content in ("12ab", "zz" * 32, "00" * 32):
        path.write_text(content)
        said = refusal(tmp_path, document)
        assert str(path) in said
        assert content not in said.replace(str(path), "")
    path.write_bytes(b"\xff\xfe" + bytes(range(30)))
    assert "64 hex digits" in refusal(tmp_path, document)
    path.unlink()
    assert "No such file" in refusal(tmp_path, document)


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("log_level", "interfaces", "grpc", "peers", "address", "tls", "self", "x")),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_document_is_loaded_or_refused(tmp_path: Path, document: Any) -> None:
    try:
        load(Settings, write(tmp_path, document))
    except ConfigError as error:
        assert str(error)


def test_a_public_key_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_over = tmp_path / "discovery"
    handed_over.write_text(f"{KEY}\n")
    monkeypatch.setenv("SKYWIRE_TRUSTED", json.dumps([f"file:{handed_over}"]))
    assert load(Settings, None).trusted == (KEY,)
    handed_over.write_text(f"{KEY}{KEY}{KEY}")
    assert "66 lower-case hex digits" in refusal(tmp_path, {})
    assert "nowhere: No such file" in refusal(tmp_path, {"peers": [{"address": "a:1", "public_key": "file:nowhere"}]})


class Exposed(ServiceSettings):
    address: ListenAddress = "127.0.0.1:0"

    def without_tls(self) -> list[Open]:
        return [Open("address", self.address)]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:7000", "[::1]:7000", "localhost:7000"])
def test_plain_text_may_stay_on_this_machine(tmp_path: Path, address: str) -> None:
    assert load(Exposed, write(tmp_path, {"address": address})).exposed() == []


@pytest.mark.parametrize("address", ["0.0.0.0:7000", "[::]:7000", "10.0.0.1:7000", "node-1:7000", "localhost.no:1"])
def test_plain_text_beyond_this_machine_needs_a_word(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match=r"address .* wants TLS.*plain_text"):
        load(Exposed, write(tmp_path, {"address": address}))
    loaded = load(Exposed, write(tmp_path, {"address": address, "plain_text": True}))
    assert loaded.exposed() == [Open("address", address)]


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("name:1", ""),
        ("10.0.0.1:1,10.0.0.2:2", ""),
        ("[::1]:1,[::2]:2", ""),
        ("10.0.0.1:1,", "an address is HOST:PORT"),
        ("10.0.0.1:1,name:2", "several addresses are IP addresses"),
        ("10.0.0.1:1,[::1]:2", "all of IPv4 or all of IPv6"),
        (",".join(f"10.0.0.{number}:1" for number in range(MAX_ADDRESSES + 1)), f"at most {MAX_ADDRESSES}"),
    ],
)
def test_replicas_of_a_peer_are_bounded_and_alike(address: str, refused: str) -> None:
    if not refused:
        assert Peer(address=address, public_key=str(KEY)).address == address
        return
    with pytest.raises(ValidationError, match=refused):
        Peer(address=address, public_key=str(KEY))
