"""How testnets come up and go down, whoever ends them and however, and what is left of them: nothing."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from skywire_cli.failures import CliError
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Topology, plan
from skywire_cli.testnet.state import State, Status, load
from system.lines import DEADLINE, SKYWIRE, skywire

pytestmark = pytest.mark.system


def processes(state: State) -> list[ProcessId]:
    return [service.process for service in state.services if service.process is not None]


@pytest.fixture
def root(short_path: Path) -> Iterator[Path]:
    """A directory for a testnet; whatever a failed test left running is ended."""
    directory = short_path / "net"
    yield directory
    state = load(directory)
    if state is not None:
        ends = [] if state.launcher.pid == os.getpid() else [state.launcher]
        for process in (*ends, *processes(state)):
            process.kill()


async def test_somebody_elses_directory_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, error = skywire("testnet", "up", "--nodes", "1", "--dir", str(tmp_path))
    assert (code, error["code"]) == (8, "NOT_EMPTY")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


async def test_nothing_is_left_after_a_block_that_fails_not_even_sockets_that_lie_elsewhere(short_path: Path) -> None:
    deep = short_path / ("d" * 100) / "net"
    seen: list[ProcessId] = []
    sockets: list[Path] = []

    async def fail() -> None:
        async with Testnet(plan(1, Topology.LINE), deep) as net:
            seen.extend(processes(net.state))
            sockets.append(net.nodes[0].socket)
            assert (await net.nodes[0].admin.summary()).state == "READY"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert len(seen) == 3
    assert not any(process.alive for process in seen)
    assert not sockets[0].is_relative_to(deep)
    assert not sockets[0].parent.exists()
    assert not deep.exists()


async def test_kept_keys_are_used_again_and_a_start_that_fails_says_why(root: Path) -> None:
    async with Testnet(plan(1, Topology.LINE), root, keep=True) as net:
        key = net.nodes[0].public_key
    config = root / "node1" / "config.json"
    assert json.loads(config.read_text())["node"]["static_public_key"] == key
    (root / "node1" / "skywire_node.py").write_text("raise SystemExit('no room for a node')")
    again = Testnet(plan(1, Topology.LINE), root)
    with pytest.raises(CliError, match="node1 ended while starting") as caught:
        await again.up()
    assert "no room for a node" in str(caught.value.details["log"])
    assert again.nodes[0].public_key == key
    state = load(root)
    assert state is not None and state.status is Status.FAILED
    assert not any(process.alive for process in processes(state))
    assert skywire("testnet", "down", "--dir", str(root))[0] == 0
    assert not root.exists()


def test_ctrl_c_takes_an_attached_testnet_down(root: Path) -> None:
    line = [*SKYWIRE, "testnet", "up", "--nodes", "1", "--dir", str(root), "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        state = json.loads(launcher.stdout.readline())
        assert state["status"] == "ready"
        seen = [ProcessId(**service["process"]) for service in state["services"]]
        assert len(seen) == 3 and all(process.alive for process in seen)
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=DEADLINE)
    assert launcher.returncode == 0
    assert not any(process.alive for process in seen)
    assert not root.exists()


@pytest.mark.parametrize("how", [[], ["--detach"]], ids=["attached", "detached"])
def test_interrupted_start_leaves_nothing_and_says_so(root: Path, how: list[str]) -> None:
    line = [*SKYWIRE, "testnet", "up", "--nodes", "2", "--dir", str(root), *how]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        for said in launcher.stdout:
            if said.startswith("node1: starting"):
                break
        state = load(root)
        assert state is not None and processes(state)
        launcher.send_signal(signal.SIGINT)
        said_last = launcher.communicate(timeout=DEADLINE)[1]
    assert launcher.returncode == 130
    assert said_last == "error: interrupted, and nothing is left running\n"
    assert not state.launcher.alive
    assert not any(process.alive for process in processes(state))
    assert not root.exists()


def test_detached_testnet_runs_until_it_is_taken_down(root: Path) -> None:
    code, up = skywire("testnet", "up", "--nodes", "1", "--detach", "--dir", str(root))
    assert (code, up["status"]) == (0, "ready")
    state = load(root)
    assert state is not None and state.launcher.alive
    # Nothing is linked to a lone node: both commands say so.
    code, status = skywire("testnet", "status", "--dir", str(root))
    assert (code, status["status"]) == (4, "degraded")
    code, said = skywire("testnet", "down", "--dir", str(root))
    assert (code, said) == (0, {"ended": True, "kept": False})
    assert not state.launcher.alive
    assert not any(process.alive for process in processes(state))
    assert not root.exists()
    assert skywire("testnet", "down", "--dir", str(root))[0] == 3


def test_detached_testnet_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, error = skywire("testnet", "up", "--nodes", "1", "--detach", "--dir", str(tmp_path))
    assert (code, error["code"]) == (8, "NOT_EMPTY")


def test_what_cannot_run_is_refused_before_the_first_process(root: Path) -> None:
    for apps, word in (
        (("a@1:9=sh",), "reserved"),
        (("a@1:5=sh",), "reserved"),
        (("a@1:50000=sh",), "49151"),
        (("a@1:20=sh", "b@1:20=sh"), "both want port 20"),
        (("a@1:20=sh", "a@1:21=sh"), "twice"),
        (("a@1:20=sh {node7}:1",), "nodes 1 to 2"),
        ((f"{'a' * 65}@1:20=sh",), "at most 64"),
    ):
        code, error = skywire(
            "testnet", "up", "--nodes", "2", "--dir", str(root), *(word for app in apps for word in ("--app", app))
        )
        assert code == 2 and word in error["message"], (apps, error)
        assert not root.exists()


@pytest.mark.slow
def test_an_app_is_told_its_name_and_one_that_calls_itself_otherwise_is_refused(root: Path, tmp_path: Path) -> None:
    up = ("testnet", "up", "--nodes", "1", "--detach", "--dir", str(root))
    helloworld = Path(sys.executable).with_name("skywire-helloworld")
    code, _ = skywire(*up, "--app", f"pong@1:20={helloworld}")
    assert code == 0
    state = load(root)
    assert state is not None
    _, apps = skywire("node", "apps", "--dir", str(root))
    assert [(app["name"], app["state"]) for app in apps] == [("pong", "READY")]
    code, error = skywire("testnet", "logs", "node1", "--app", "nope", "--dir", str(root))
    assert (code, error["code"], error["hint"]) == (7, "NOT_FOUND", "its apps: pong")
    assert skywire("logs", "--app", "nope", "--dir", str(root))[0] == 7
    assert skywire("testnet", "down", "--dir", str(root))[0] == 0
    program = tmp_path / "hello.py"
    program.write_text('from skywire_app.blocking import App\nApp.setup("hello", "1.0").accept()\n')
    code, error = skywire(*up, "--app", f"other@1:20={program}")
    assert (code, error["code"]) == (1, "APP_FAILED")
    assert "this pipe is for other version 1.0, not hello version 1.0" in error["message"]
    assert skywire("testnet", "down", "--dir", str(root))[0] == 0


def test_nothing_outlives_a_launcher_that_is_killed_and_down_ends_nobody_else(root: Path) -> None:
    code, _ = skywire("testnet", "up", "--nodes", "1", "--detach", "--dir", str(root))
    assert code == 0
    state = load(root)
    assert state is not None
    pidfds = [os.pidfd_open(process.pid) for process in processes(state)]
    assert len(pidfds) == 3
    try:
        state.launcher.kill()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], DEADLINE)[0], "a process outlived the launcher"
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
    assert skywire("testnet", "status", "--dir", str(root))[0] == 3
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as bystander:
        try:
            # As if the pids had been given away since.
            document = json.loads((root / "testnet.json").read_text())
            document["launcher"]["pid"] = bystander.pid
            for service in document["services"]:
                service["process"]["pid"] = bystander.pid
            (root / "testnet.json").write_text(json.dumps(document))
            assert skywire("testnet", "down", "--dir", str(root)) == (0, {"ended": False, "kept": False})
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert not root.exists()
