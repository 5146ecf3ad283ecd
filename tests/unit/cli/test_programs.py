"""Apps of a node that somebody names on the command line: those that ship by name, others by their program."""

from __future__ import annotations

import importlib
import json
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.failures import CliError
from skywire_cli.main import run
from skywire_cli.programs import VERSION, parse, shipped

SCRIPTS = Path(sys.executable).parent


def test_what_ships_has_the_version_that_it_is_linked_by() -> None:
    commands = distribution("skywire-apps").entry_points.select(group="console_scripts")
    assert {app.name for app in shipped()} >= {
        "chat",
        "ssh",
        "ssh-client",
        "socksproxy",
        "socksproxy-client",
        "forward",
    }
    for command in commands:
        assert importlib.import_module(command.module).VERSION == VERSION, command.name


@pytest.mark.parametrize(
    ("text", "name", "port", "program", "arguments"),
    [
        ("chat", "chat", 1, SCRIPTS / "skywire-chat", ()),
        ("ssh --authorized 'my friends'", "ssh", 2, SCRIPTS / "skywire-ssh", ("--authorized", "my friends")),
        ("ssh-client", "ssh-client", 0, SCRIPTS / "skywire-ssh-client", ()),
        (
            "forward@30 serve --target 127.0.0.1:80",
            "forward",
            30,
            SCRIPTS / "skywire-forward",
            ("serve", "--target", "127.0.0.1:80"),
        ),
        ("web@31=skywire-forward x", "web", 31, None, ("x",)),
        ("mine=./mine -v", "mine", 0, Path("mine"), ("-v",)),
    ],
)
def test_an_app_is_read(
    text: str,
    name: str,
    port: int,
    program: Path | None,
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{SCRIPTS}:/usr/bin:/bin")
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    app = parse(text)
    assert (app.name, app.port, app.arguments) == (name, port, arguments)
    assert app.program == (SCRIPTS / "skywire-forward" if program is None else tmp_path / program)
    assert app.entry().get("port", 0) == port


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", "USAGE", "NAME[@PORT]"),
        ("chat 'x", "USAGE", "quoted wrongly"),
        ("../chat", "USAGE", "not '../chat'"),
        ("chat@x", "USAGE", "not 'chat@x'"),
        ("chatt", "NOT_FOUND", "no app chatt ships"),
        ("mine=no/such", "NOT_FOUND", "there is no program no/such"),
        ("mine=plain.py", "FILE", "plain.py is not executable"),
    ],
)
def test_what_cannot_be_says_what_to_do(
    text: str, code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text("")
    with pytest.raises(CliError) as refused:
        parse(text)
    assert refused.value.code == code
    assert said in refused.value.message
    if text == "chatt":
        assert "chat, filecopy, forward" in refused.value.hint and "chatt=FILE" in refused.value.hint


def asked(capsys: pytest.CaptureFixture[str], *line: str, status: int = 0) -> Any:
    assert run([*line, "--json"]) == status
    out, err = capsys.readouterr()
    return json.loads(err if status else out)


@pytest.mark.slow  # each question starts a service
def test_a_node_is_made_with_its_apps_and_gets_and_loses_others(
    short_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = short_path / "n"
    new = ("config", "new", "node", str(place), "--app", "chat --listen 127.0.0.1:0")
    made = asked(capsys, *new, "--app", "ssh-client")
    config = Path(made["config"])
    links = {path.name: path.readlink() for path in (place / "apps").iterdir()}
    assert made["apps"] == [str(place / "apps" / name) for name in ("chat.v1.0", "ssh-client.v1.0")]
    assert links == {"chat.v1.0": SCRIPTS / "skywire-chat", "ssh-client.v1.0": SCRIPTS / "skywire-ssh-client"}
    socket = ("--socket", str(place / "admin.sock"))
    added = asked(capsys, "node", "apps", "add", "forward@30 serve --target 127.0.0.1:80", *socket)
    link = str(place / "apps" / "forward.v1.0")
    assert added == {"app": "forward", "program": link, "config": str(config), "warnings": []}
    entries = {entry["app"]: entry for entry in json.loads(config.read_text())["apps"]}
    assert entries["forward"] == {
        "app": "forward",
        "version": "1.0",
        "port": 30,
        "auto_start": True,
        "args": ["serve", "--target", "127.0.0.1:80"],
    }
    assert entries["chat"]["port"] == 1 and "port" not in entries["ssh-client"]
    assert config.stat().st_mode & 0o777 == 0o600
    before = config.read_bytes()
    again = asked(capsys, "node", "apps", "add", "forward", *socket, status=8)
    assert again["hint"] == "skywire node apps remove forward"
    # Two that want one port: the configuration stays, and no link is left.
    refused = asked(capsys, "node", "apps", "add", "other@30=sh", *socket, status=1)
    assert "both want port 30" in refused["message"]
    assert config.read_bytes() == before and not (place / "apps" / "other.v1.0").is_symlink()
    asked(capsys, "node", "apps", "remove", "forward", "--config", str(config))
    assert {path.name for path in (place / "apps").iterdir()} == set(links)
    assert asked(capsys, "node", "apps", "remove", "forward", *socket, status=7)["hint"] == "it has chat, ssh-client"


def test_only_a_node_has_apps_and_they_are_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "n")
    for line in (
        ("discovery", place, "--app", "chat"),
        ("node", place, "--app", "chat", "--set", "apps=[]"),
        ("node", place, "--app", "chat@"),
    ):
        assert asked(capsys, "config", "new", *line, status=2)["code"] == "USAGE"
    assert asked(capsys, "config", "new", "node", place, "--app", "shh", status=7)["code"] == "NOT_FOUND"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_file_of_the_users_own_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "n" / "apps" / "chat.v1.0"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    line = ("config", "new", "node", str(tmp_path / "n"), "--app", "chat")
    assert str(own) in asked(capsys, *line, status=8)["message"]
    assert own.read_text() == "mine"
    own.unlink()
    assert asked(capsys, *line)["apps"] == [str(own)]


@pytest.mark.parametrize("text", ["[", "[]", '{"apps": [1]}'])
def test_what_is_no_configuration_is_left_alone(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(text)
    for line in (("add", "chat"), ("remove", "chat")):
        assert asked(capsys, "node", "apps", *line, "--config", str(config), status=1)["code"] == "CONFIG"
    assert config.read_text() == text
    assert asked(capsys, "node", "apps", "add", "chat", "--socket", "no/such", status=7)["hint"].endswith("--config")


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        ("chat", False),
        ("helloworld", True),
        ("helloworld@20", False),
        ("helloworld --dial KEY:20", False),
        ("helloworld --dial=KEY:20", False),
        ("ssh-client", False),
        ("socksproxy-client KEY", False),
        ("forward serve --target 127.0.0.1:80", True),
        ("forward listen KEY:21 --listen 127.0.0.1:8080", False),
        ("mail=skywire-forward listen KEY:25", False),
        ("mine=env x", True),
        ("mine@20=env x", False),
    ],
)
def test_an_app_that_nobody_can_dial_is_warned_of(text: str, warns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(SCRIPTS), prepend=":")
    found = parse(text).warnings()
    assert len(found) == warns
    for warning in found:
        name = text.split("=")[0].split()[0]
        assert f"{name}@PORT, 10 to 49151" in warning


def test_the_warning_comes_when_it_is_added_and_when_a_node_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = tmp_path / "n"
    assert run(["config", "new", "node", str(node), "--app", "helloworld", "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "helloworld@PORT" in warning
    place = ["--config", str(node / "config.json"), "--socket", str(node / "admin.sock")]
    assert run(["node", "apps", "add", "forward serve --target 127.0.0.1:80", *place]) == 0
    said = capsys.readouterr()
    assert "forward has no port" in said.err and "has no port" not in said.out
