"""Exit codes: one for each error's code, shown to users as they are, and the same whichever command fails."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

import pytest
from skywire_cli.failures import EXIT_OF, CliError, Exit, explain
from skywire_cli.main import run
from skywire_common import disk
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LocalError

DOCS = Path(__file__).parents[3] / "docs" / "errors.md"
CODE = re.compile(r'(?:CliError\(\s*|error\.code == )"([A-Z_]+)"')
SOURCE = Path(__file__).parents[3] / "cli" / "src" / "skywire_cli"


def test_every_code_has_an_exit_code() -> None:
    assert {code.value for code in ErrorCode} <= set(EXIT_OF)
    used = {code for path in SOURCE.rglob("*.py") for code in CODE.findall(path.read_text())}
    assert "NO_TESTNET" in used
    assert used <= set(EXIT_OF)
    with pytest.raises(LocalError):
        CliError("SOMETHING_NEW", "")


def test_docs_show_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| [^|]+ \|([^|]*)\|$", DOCS.read_text(), re.MULTILINE)
    shown = {int(number): set(codes.replace(",", " ").split()) for number, codes in rows}
    table: dict[int, set[str]] = {status.value: set() for status in Exit}
    for code, status in EXIT_OF.items():
        table[status.value].add(code)
    assert shown == table


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (Failure(ErrorCode.NOT_FOUND, "no such app"), "NOT_FOUND", Exit.NOT_FOUND),
        (Failure(ErrorCode.NO_ROUTE, "no path"), "NO_ROUTE", Exit.NOT_FOUND),
        (Failure(ErrorCode.DEADLINE, "late"), "DEADLINE", Exit.TIMEOUT),
        (Failure(ErrorCode.UNAVAILABLE, "full", FailureFields(limit=disk.LIMIT)), "NO_SPACE", Exit.MACHINE),
        (DecodeError("no key"), "INVALID_INPUT", Exit.USAGE),
        (LocalError("no ring"), "REFUSED", Exit.USAGE),
        (OSError(errno.ENOSPC, "full", "/x"), "NO_SPACE", Exit.MACHINE),
        (OSError(errno.EDQUOT, "full", "/x"), "NO_SPACE", Exit.MACHINE),
        (PermissionError(errno.EACCES, "no", "/x"), "FILE", Exit.MACHINE),
    ],
)
def test_expected_exceptions_become_errors(error: Failure | OSError, code: str, status: Exit) -> None:
    shown = explain(error)
    assert (shown.code, shown.status) == (code, status)
    if isinstance(error, OSError):
        assert shown.message.startswith("/x: ")


_NONE = ["--dir", "no/such/testnet"]
_KEY = "02" * 33


@pytest.mark.parametrize(
    "line",
    [
        ["node", "summary"],
        ["node", "transports"],
        ["node", "transports", "types"],
        ["node", "transports", "add", "021b9710ea47fc62b57ecb9e4a7a19efd678fc9b42dbced9bfc38e8d2e19aa7b29"],
        ["node", "transports", "remove", "00000000-0000-0000-0000-000000000001"],
        ["node", "rules"],
        ["node", "rules", "remove", "00000001"],
        ["node", "loops"],
        ["node", "loops", "close", "1"],
        ["node", "apps"],
        ["node", "apps", "start", "x"],
        ["node", "apps", "stop", "x"],
        ["node", "apps", "auto-start", "x", "on"],
        ["node", "log-level", "info"],
        ["status"],
        ["top", "--count", "1"],
        ["loop", "trace", "1"],
        ["loop", "explain", "1"],
    ],
    ids=" ".join,
)
def test_a_node_that_does_not_run_is_3_in_every_command(
    line: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    # Left by a node that was killed: the file is there, and nobody listens.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path / "s", tmp_path / "none"):
        assert run([*line, "--socket", str(path), "--json"]) == 3
        out, err = capsys.readouterr()
        error = json.loads(err)
        assert out == ""
        assert error["code"] == "UNAVAILABLE"
        assert error["message"] == f"the node at {path} is not running"
        assert error["hint"] == f"start it with: skywire-node --config {tmp_path / 'config.json'}"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (["nonsense"], Exit.USAGE),
        (["config", "check", "nothing"], Exit.USAGE),
        (["install-service", "node"], Exit.USAGE),
        (["demo", "--size", "0"], Exit.USAGE),
        (["discovery", "status", *_NONE], Exit.NOT_RUNNING),
        (["discovery", "nodes", "--discovery", "127.0.0.1:1"], Exit.NOT_RUNNING),
        (["route", "find", "1", "2", *_NONE], Exit.NOT_RUNNING),
        (["discovery", "routes", "1", "2", "--discovery", "127.0.0.1:1", *_NONE], Exit.NOT_RUNNING),
        (["discovery", "transports", "--node", "x", "--discovery", "127.0.0.1:1"], Exit.USAGE),
        (["health", "x"], Exit.USAGE),
        (["health", "127.0.0.1:0"], Exit.USAGE),
        (["status", "--socket", "/dev/null"], Exit.USAGE),
        (["status", "--socket", ""], Exit.USAGE),
        (["keygen", ""], Exit.USAGE),
        (["logs", "--file", ""], Exit.USAGE),
        (["app-conformance", "no-such-program"], Exit.USAGE),
        (["testnet", "up", "--app", "a@9:20=sh", *_NONE], Exit.USAGE),
        (["testnet", "logs", "node1", *_NONE], Exit.NOT_RUNNING),
        (["testnet", "restart", "node1", *_NONE], Exit.NOT_RUNNING),
        (["discovery", "status", "--discovery", "nowhere"], Exit.USAGE),
        (["route", "find", _KEY, _KEY, "--discovery", "127.0.0.1:99999"], Exit.USAGE),
        (["keygen", "/proc/none/key"], Exit.MACHINE),
        (["vectors", "check", __file__], Exit.USAGE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_commands_by_the_same_table(line: list[str], status: Exit, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*line, "--json"]) == status
    error = json.loads(capsys.readouterr().err)
    assert EXIT_OF[error["code"]] == status
    assert "Traceback" not in error["message"]
