"""`skywire logs` and `skywire top`: what is picked, how it is written, how rates are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.failures import CliError
from skywire_cli.logs import MAX_LINE
from skywire_cli.main import run
from skywire_cli.output import console, print_error, table
from skywire_cli.top import rated, render

RECORDS: list[dict[str, Any]] = [
    {"event": "starting", "level": "info", "timestamp": "T1", "pid": 5},
    {"event": "output", "level": "info", "timestamp": "T2", "app": "chat", "line": "hello you"},
    {"event": "broken", "level": "error", "timestamp": "T3", "exception": "Traceback\n  boom"},
    {"event": "dial failed", "level": "debug", "timestamp": "T4", "reason": "refused"},
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "node.log"
    file.write_text("".join(json.dumps(record) + "\n" for record in RECORDS) + "Killed")
    return file


def shown(capsys: pytest.CaptureFixture[str], log: Path, *more: str) -> list[str]:
    assert run(["logs", "--file", str(log), *more]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_log_is_written_for_people(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    lines = shown(capsys, log)
    assert lines[0].split() == ["T1", "info", "starting", "pid=5"]
    assert lines[2:5] == ["T3 error   broken", "Traceback", "  boom"]
    assert lines[-1] == "Killed"
    assert "reason=refused" in lines[-2]


def test_what_is_asked_for_is_picked(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    assert shown(capsys, log, "--app", "chat") == ["hello you"]
    assert [line for line in shown(capsys, log, "--level", "warning") if line.startswith("T3")] == ["T3 error   broken"]
    assert shown(capsys, log, "--lines", "1") == ["Killed"]
    assert json.loads(shown(capsys, log, "--app", "chat", "--json")[0])["line"] == "hello you"


def test_what_an_app_or_a_far_node_said_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "node.log"
    evil = "go\x1b]0;title\x07 \x1b[2Jaway\r\x9b31m"
    records: list[dict[str, Any]] = [{"event": "output", "app": "chat", "line": evil}, {"event": evil, "reason": evil}]
    file.write_text("".join(json.dumps(record) + "\n" for record in records) + "\x1b[31mKilled\n")
    seen = r"go\x1b]0;title\x07 \x1b[2Jaway\x0d\x9b31m"
    assert shown(capsys, file, "--app", "chat") == [seen]
    assert shown(capsys, file)[1].strip() == f"{seen}  reason={seen}"
    assert shown(capsys, file)[2] == r"\x1b[31mKilled"
    assert json.loads(shown(capsys, file, "--app", "chat", "--json")[0])["line"] == evil
    print_error(CliError("CLOSED", evil, evil, {"hop": evil}), as_json=False)
    assert capsys.readouterr().err.count(seen) == 3
    console().print(table(evil, ("reason",), [[evil]]))
    assert capsys.readouterr().out.count(seen) == 2


def test_what_is_no_log_neither_hangs_nor_fills_the_screen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["logs", "--file", "/dev/urandom", "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["message"] == "/dev/urandom is a device, not a log"
    file = tmp_path / "odd.log"
    binary = bytes(range(256)) * 100
    file.write_bytes(binary + b"\nlast words\n" + b"x" * (3 * MAX_LINE) + b"\n" + b"y" * (2 * MAX_LINE))
    lines = shown(capsys, file)
    assert lines == ["last words", "x" * MAX_LINE + "…", "y" * MAX_LINE + "…"]


def row(key: str, sent: int, received: int) -> dict[str, Any]:
    return {
        "transport_id": key,
        "remote": "02" * 33,
        "type": "tcp",
        "state": "UP",
        "queued": 0,
        "bytes_sent": sent,
        "bytes_received": received,
    }


def look(*transports: dict[str, Any], forwarded: int = 0) -> dict[str, Any]:
    summary = {
        "state": "READY",
        "reasons": ["why not"],
        "uptime_s": 1,
        "transports_up": 1,
        "transports": 2,
        "loops": 0,
        "rules": 0,
        "bytes_forwarded": forwarded,
    }
    return {"summary": summary, "transports": list(transports), "loops": [], "apps": []}


def test_rates_are_of_the_time_between_two_looks_and_the_busiest_is_first() -> None:
    before = look(row("a", 100, 0), row("b", 50, 50))
    after = look(row("a", 300, 0), row("b", 5_050, 1_050), row("new", 9, 9), forwarded=4_000)
    seen = rated(before, after, 2.0)
    assert [(one["transport_id"], one["sent_per_s"], one["received_per_s"]) for one in seen["transports"]] == [
        ("b", 2_500, 500),
        ("a", 100, 0),
        ("new", 0, 0),
    ]
    assert seen["forwarded_per_s"] == 2_000
    # Counters that went back are a new life, not a negative rate.
    assert rated(after, before, 1.0)["transports"][0]["sent_per_s"] == 0
    from rich.console import Console

    console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    console.print(render(seen))
    console.file.close()
    text = console.export_text()
    assert "why not" in text
    assert "2.4 KiB/s" in text
