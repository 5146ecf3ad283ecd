"""The demo as `make demo` runs it, only smaller: it passes, it fails when something is not so, it leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from skywire_cli.testnet.state import State, load

# More than DEADLINE: a demo that hangs is ended, and says where.
pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]
DEMO = [sys.executable, "-m", "skywire_cli", "demo"]
# What a killed setup node leaves is leased for 30 s.
DEADLINE = 150
# Enough to be on the way still when something is done to it.
MIB = 48


def users_of(directory: Path) -> list[str]:
    """Return the command lines of all processes that name the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(directory) in line:
            found.append(line)
    return found


@pytest.fixture
def place(short_path: Path) -> Iterator[Path]:
    """Where a demo may work; whatever a failed test left running is ended."""
    directory = short_path / "demo"
    yield directory
    state = load(directory / "net")
    if state is not None:
        for process in (state.launcher, *(service.process for service in state.services)):
            if process is not None:
                process.kill()


def test_demo_passes_and_says_what_it_found(place: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--size", str(MIB), "--pings", "50", "--dir", str(place), "--json"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    document = json.loads(done.stdout)
    assert done.returncode == 0, [check for check in document["checks"] if not check["holds"]]
    assert document["passed"] and all(check["holds"] for check in document["checks"])
    killed = document["killed"]
    for route, middle in (("route", killed), ("second_route", min({"node2", "node3"} - {killed}))):
        there = [hop["node"] for hop in document[route] if hop["direction"] == "there"]
        assert there == ["node1", middle, "node4"]
        assert [hop["node"] for hop in document[route] if hop["direction"] == "back"] == there[::-1]
    assert document["reroutes"] >= 1 and document["pause_s"] > 0
    standby = document["standby"]
    assert standby["killed"] in {"node2", "node3"} and standby["pause_s"] > 0
    assert {hop["node"] for hop in standby["second_route"]} == {"node1", "node2", "node3", "node4"} - {
        standby["killed"]
    }
    assert document["without"] == ["setup-node1", "setup-node2"]
    assert standby["sent_sha256"] == standby["received_sha256"] != ""
    assert document["setup_node_killed"] == "setup-node1" and document["reserved_then"] > 0
    assert document["sent_sha256"] == document["received_sha256"] != ""
    assert document["answered"] == 50
    assert 0 < document["round_trip_p50_us"] <= document["round_trip_p99_us"]
    assert sum(document["forwarded"].values()) > MIB * (1 << 20) / 65_480
    assert set(document["rules_left"].values()) == {0}
    assert document["left"] == []
    assert not place.exists()
    assert users_of(place) == []


@pytest.mark.slow  # a whole network once more
def test_a_line_of_nodes_that_all_live(place: Path) -> None:
    line = [*DEMO, "--topology", "line", "--size", "8", "--pings", "50", "--dir", str(place), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE)
    document = json.loads(done.stdout)
    assert done.returncode == 0, [check for check in document["checks"] if not check["holds"]]
    there = [hop["node"] for hop in document["route"] if hop["direction"] == "there"]
    assert there == ["node1", "node2", "node3", "node4"]
    assert (document["killed"], document["reroutes"], document["standby"]) == ("", 0, None)
    assert not place.exists()


def until_sending(demo: subprocess.Popen[str], place: Path) -> State:
    """Wait until the file is on its way; return the testnet's state."""
    assert demo.stdout is not None
    said = []
    for line in demo.stdout:
        said.append(line)
        if "the loop has" in line:
            state = load(place / "net")
            assert state is not None
            return state
    raise AssertionError("the demo ended before it sent anything:\n" + "".join(said))


def test_ctrl_c_in_the_middle_leaves_nothing(place: Path) -> None:
    line = [*DEMO, "--size", str(MIB), "--dir", str(place)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        state = until_sending(demo, place)
        processes = [service.process for service in state.services if service.process is not None]
        assert len(processes) == 7 and all(process.alive for process in processes)
        assert any("filecopy" in user for user in users_of(place))
        demo.send_signal(signal.SIGINT)
        out, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 130, out
    assert not any(process.alive for process in processes)
    assert users_of(place) == []
    assert not place.exists()


@pytest.mark.slow
def test_demo_fails_when_a_node_dies(place: Path) -> None:
    line = [*DEMO, "--size", str(MIB), "--dir", str(place)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        state = until_sending(demo, place)
        first = state.node(1).process
        assert first is not None
        first.kill()
        out, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 1, out
    assert "NOT SO" in out
    assert not place.exists()
    assert not any(service.process.alive for service in state.services if service.process is not None)
    # Apps lost their node to SIGKILL, which can reap nobody: they end by themselves, or with it.
    deadline = time.monotonic() + DEADLINE
    while users_of(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert users_of(place) == []


def test_full_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = subprocess.run([*DEMO, "--dir", str(tmp_path), "--json"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 8
    assert json.loads(done.stderr)["code"] == "NOT_EMPTY"
    assert (tmp_path / "mine").read_text() == "mine"
