"""What is said to somebody whose node is not there: which socket was tried, and what starts it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from skywire_cli import units
from skywire_cli.admin import NodeAdmin
from skywire_cli.asking import ask
from skywire_cli.failures import CliError
from skywire_cli.install_service import Unit, render
from skywire_cli.main import run
from skywire_cli.target import DEFAULT_DIRECTORY, Target, start_line
from skywire_common.errors import ErrorCode, Failure, FailureFields

COMMANDS = (["status"], ["node", "apps"], ["node", "loops"], ["top", "--count", "1"], ["loop", "trace"])


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without node, testnet and units, where this user is at home in an empty folder."""
    for name in ("SKYWIRE_ADMIN", "SKYWIRE_ADMIN_REMOTE", "SKYWIRE_TESTNET", "SKYWIRE_DISCOVERY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SKYWIRE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(units, "SYSTEM_DIRECTORY", tmp_path / "units")
    monkeypatch.setattr(units, "USER_DIRECTORY", tmp_path / "own-units")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], line: list[str]) -> tuple[int, str, str, str]:
    status = run([*line, "--json"])
    error = json.loads(capsys.readouterr().err)
    return status, error["code"], error["message"], error["hint"]


def install(config: Path, directory: Path) -> None:
    directory.mkdir()
    unit = Unit("node", Path("/opt/skywire/bin/skywire-node"), config, [config.parent], "sky", 20, of_user=False)
    (directory / "skywire-node.service").write_text(render(unit))


@pytest.mark.parametrize("line", COMMANDS)
def test_who_names_no_node_and_has_none(line: list[str], machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, code, message, hint = refused(capsys, line)
    assert (status, code) == (3, "NOT_RUNNING")
    assert str(machine / "home" / "node") in message
    assert "--socket or SKYWIRE_ADMIN" in hint and "skywire-node" in hint
    assert "testnet up" not in hint and "testnet status" not in hint


def test_who_has_a_unit_is_told_its_configuration(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = machine / "etc" / "config.json"
    install(config, machine / "units")
    assert f"interfaces.admin in {config}" in refused(capsys, ["status"])[3]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_socket_that_is_not_there_is_named(
    line: list[str], machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    socket = machine / "n" / "admin.sock"
    status, code, message, hint = refused(capsys, [*line, "--socket", str(socket)])
    assert (status, code) == (3, "UNAVAILABLE")
    assert str(socket) in message
    assert "start it with: skywire-node --config FILE" in hint and "there is no such socket" in hint


def test_the_line_that_starts_a_node(machine: Path) -> None:
    config = machine / "n" / "config.json"
    config.parent.mkdir()
    config.write_text("{}")
    target = Target(machine / "n" / "admin.sock", None, Path("skywire-testnet"))
    assert start_line(target) == f"skywire-node --config {config}"
    install(machine / "another.json", machine / "units")
    assert start_line(target) == f"skywire-node --config {config}"
    install(config, machine / "own-units")
    assert start_line(target) == "systemctl --user start skywire-node"
    install_again = machine / "units" / "skywire-node.service"
    install_again.write_text((machine / "own-units" / "skywire-node.service").read_text())
    assert start_line(target) == "systemctl start skywire-node"


@pytest.mark.parametrize("line", [["discovery", "nodes"], ["route", "find", "02" * 33, "03" * 33]])
def test_a_discovery_that_nobody_named(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    status, code, _, hint = refused(capsys, line)
    assert (status, code) == (3, "NO_DISCOVERY")
    assert "--discovery HOST:PORT, or SKYWIRE_DISCOVERY" in hint


def test_an_address_where_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    status, code, message, hint = refused(capsys, ["discovery", "nodes", "--discovery", "127.0.0.1:9"])
    assert (status, code) == (3, "UNAVAILABLE")
    assert "127.0.0.1:9" in message and "testnet" not in hint


@pytest.mark.parametrize("said", ["cannot be reached: connection attempt timed out", "has not answered in time"])
def test_a_node_that_listens_and_does_not_answer_is_not_called_away(said: str, short_path: Path) -> None:
    target = Target(short_path / "a.sock", None, DEFAULT_DIRECTORY)

    async def question(admin: NodeAdmin) -> None:
        raise Failure(ErrorCode.UNAVAILABLE, f"unix:{target.socket} {said}", FailureFields(retryable=True))

    async def another(admin: NodeAdmin) -> None:
        raise Failure(ErrorCode.UNAVAILABLE, "the app's disk is away")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(target.socket))
        listener.listen()
        with pytest.raises(CliError, match="listens, and does not answer") as caught:
            ask(target, question)
        with pytest.raises(Failure, match="disk"):  # what the node itself says stays as it is
            ask(target, another)
    assert caught.value.code == "DEADLINE"
    assert f"skywire logs --socket {target.socket}" in caught.value.hint
