"""Testnets of real processes, from the command line and as a library, and what is left of them: nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.failures import CliError
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.network import Node, Testnet
from skywire_cli.testnet.plan import AppPlan, Topology, plan
from skywire_cli.testnet.state import State, Status, load
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure

pytestmark = pytest.mark.system
SKYWIRE = [sys.executable, "-m", "skywire_cli"]
DEADLINE = 60
PORT = 12


def skywire(*line: str, env: dict[str, str] | None = None) -> tuple[int, Any]:
    """Run a command with --json; return its exit code and what it said, the error if there was one."""
    done = subprocess.run([*SKYWIRE, *line, "--json"], capture_output=True, text=True, env=env, timeout=DEADLINE)
    said = done.stdout if done.returncode in (0, 1, 4) and done.stdout else done.stderr
    return done.returncode, json.loads(said) if said else None


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


@pytest.fixture(scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testnet]:
    """Three nodes in a line; a test that changes anything puts it back."""
    command = (sys.executable, "-m", "skywire_apps.helloworld")
    pings = ("--dial", f"{{node3}}:{PORT}", "--count", "1000000", "--interval", "0.01")
    apps = {
        0: (AppPlan("helloworld", "1.0", PORT, command, pings),),
        2: (AppPlan("helloworld", "1.0", PORT, command, auto_start=True),),
    }
    planned = plan(3, Topology.LINE, apps=apps)
    async with Testnet(planned, tmp_path_factory.mktemp("shared") / "net", shape="line of 3") as running:
        yield running


async def test_every_node_is_ready_and_linked_to_its_neighbours(net: Testnet) -> None:
    for node in net.nodes:
        summary = await node.admin.summary()
        assert (summary.state, list(summary.reasons)) == ("READY", [])
        assert summary.build.public_key == node.key
        expected = {net.nodes[index].key for index in net.plan.neighbours(node.number - 1)}
        assert {transport.remote for transport in await node.admin.transports()} == expected
        assert summary.rules == summary.loops == summary.rules_orphaned == 0


async def test_keys_sockets_and_directories_are_their_owners_alone(net: Testnet) -> None:
    assert stat.S_IMODE(net.directory.stat().st_mode) == 0o700
    for service in net.services:
        assert stat.S_IMODE((service.directory / "secret.key").stat().st_mode) == 0o600
    for node in net.nodes:
        assert stat.S_IMODE(node.socket.stat().st_mode) == 0o600
        assert len(os.fsencode(node.socket)) <= 107


async def test_commands_find_nodes_by_number_socket_and_environment(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    second = net.nodes[1]
    for line in (("--node", "2", *at), ("--socket", str(second.socket))):
        code, summary = skywire("node", "summary", *line)
        assert (code, summary["build"]["public_key"]) == (0, second.public_key)
    code, summary = skywire("node", "summary", env={**os.environ, "SKYWIRE_ADMIN": str(second.socket)})
    assert (code, summary["build"]["public_key"]) == (0, second.public_key)
    code, error = skywire("node", "summary", "--node", "4", *at)
    assert (code, error["code"]) == (7, "NOT_FOUND")


async def test_lists_are_json_and_tables(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "2")
    code, transports = skywire("node", "transports", *at)
    assert code == 0
    assert {transport["remote"] for transport in transports} == {net.nodes[0].public_key, net.nodes[2].public_key}
    assert {(transport["state"], transport["registered"]) for transport in transports} == {("UP", True)}
    code, filtered = skywire("node", "transports", *at, "--to", net.nodes[0].public_key)
    assert [transport["remote"] for transport in filtered] == [net.nodes[0].public_key]
    for what in ("rules", "loops", "apps"):
        assert skywire("node", what, *at) == (0, [])
    table = subprocess.run([*SKYWIRE, "node", "transports", *at], capture_output=True, text=True, check=True).stdout
    assert transports[0]["transport_id"] in table


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await holds():
            await asyncio.sleep(0.05)


def printed(*line: str) -> str:
    """Return the table that a command prints."""
    return subprocess.run([*SKYWIRE, *line], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout


async def test_app_is_started_its_loop_seen_on_every_node_and_closed(net: Testnet) -> None:
    first, middle, last = net.nodes
    at = [("--dir", str(net.directory), "--node", str(node.number)) for node in net.nodes]

    async def pinging() -> bool:
        loops = await first.admin.loops()
        return bool(loops) and loops[0].state == "OPEN" and loops[0].bytes_received > 0

    await until(pinging_server := _ready(last))
    assert skywire("node", "apps", "start", "helloworld", *at[0])[0] == 0
    await until(pinging)
    (loop,) = skywire("node", "loops", *at[0])[1]
    assert (loop["app"], loop["remote"]) == ("helloworld", {"public_key": last.public_key, "port": PORT})
    assert [hop["to_key"] for hop in loop["routes"]["forward"]["hops"]] == [middle.public_key, last.public_key]
    rules = [skywire("node", "rules", *line)[1] for line in at]
    assert [sorted(rule["type"] for rule in found) for found in rules] == [
        ["app", "forward"],
        ["forward"] * 2,
        ["app", "forward"],
    ]
    assert {rule["setup_id"] for found in rules for rule in found} == {loop["loop_id"]}
    ids = {rule["route_id"] for found in rules for rule in found}
    assert {rule["next_id"] for found in rules for rule in found if rule["type"] == "forward"} < ids
    assert loop["loop_id"][:8] in printed("node", "loops", *at[0])
    table = printed("node", "rules", *at[1])
    assert all(f"{rule['route_id']:08x}" in table and f"{rule['next_id']:08x}" in table for rule in rules[1])
    assert "READY" in printed("node", "apps", *at[0])
    assert skywire("node", "loops", "close", "ffff", *at[0])[0] == 7
    assert skywire("node", "loops", "close", loop["loop_id"][:12], *at[0]) == (0, {"closed": loop["loop_id"]})

    async def gone() -> bool:
        said = [await node.admin.summary() for node in net.nodes]
        return not any(summary.loops or summary.rules or summary.reservations for summary in said)

    await until(gone)
    code, app = skywire("node", "apps", "stop", "helloworld", *at[0])
    assert (code, app["state"], app["pid"]) == (0, "STOPPED", 0)
    await until(pinging_server)


def _ready(node: Node) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return {app.state for app in await node.admin.apps()} == {"READY"}

    return ready


async def test_waiting_for_an_app_gives_its_end(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "1")
    waiting = await asyncio.create_subprocess_exec(
        *SKYWIRE, "node", "apps", "start", "helloworld", "--wait", "--json", *at, stdout=-1, stderr=-1
    )
    await until(_ready(net.nodes[0]))
    await net.nodes[0].admin.stop_app("helloworld")
    out, err = await waiting.communicate()
    assert waiting.returncode == 1
    assert json.loads(out)["state"] == "STOPPED"
    error = json.loads(err)
    assert error["code"] == "APP_FAILED"
    assert error["message"].startswith("app helloworld ended with SIGTERM: app helloworld was stopped")


async def test_logs_are_the_processes_own(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    assert printed("testnet", "logs", "node2", *at) == net.nodes[1].log
    code, error = skywire("testnet", "logs", "node9", *at)
    assert (code, error["code"]) == (7, "NOT_FOUND")


async def test_log_level_is_changed_while_running(net: Testnet) -> None:
    at = ("--dir", str(net.directory), "--node", "2")
    assert skywire("node", "log-level", "debug", *at) == (0, {"level": "debug"})
    assert skywire("node", "log-level", "info", *at) == (0, {"level": "info"})
    assert skywire("node", "log-level", "loud", *at)[0] == 2


async def test_status_shows_every_process(net: Testnet) -> None:
    code, status = skywire("testnet", "status", "--dir", str(net.directory))
    assert code == 0
    assert [service["name"] for service in status["services"]] == [service.name for service in net.services]
    assert {summary["state"] for summary in status["summaries"].values()} == {"READY"}
    table = subprocess.run(
        [*SKYWIRE, "testnet", "status", "--dir", str(net.directory)], capture_output=True, text=True, check=True
    ).stdout
    assert all(service.name in table for service in net.services)


async def test_routes_are_found_by_number_and_by_key(net: Testnet) -> None:
    at = ("--dir", str(net.directory))
    code, found = skywire("route", "find", "1", "3", *at)
    assert code == 0
    keys = [node.public_key for node in net.nodes]
    (pair,) = found["routes"]
    assert [(hop["from_key"], hop["to_key"]) for hop in pair["forward"]["hops"]] == list(itertools.pairwise(keys))
    assert [(hop["from_key"], hop["to_key"]) for hop in pair["reverse"]["hops"]] == list(itertools.pairwise(keys[::-1]))
    assert (
        skywire("route", "find", keys[0], keys[2], "--discovery", net.discovery.interfaces["grpc"])[1]["routes"]
        == (found["routes"])
    )
    code, error = skywire("route", "find", "1", "3", "--max-hops", "1", *at)
    assert (code, error["code"]) == (7, "ROUTE_TOO_LONG")


async def test_what_is_not_there_is_7_in_every_command(net: Testnet) -> None:
    stranger = str(SecretKey.generate().public)
    lines = (
        ("node", "apps", "start", "nonsense"),
        ("node", "apps", "stop", "nonsense"),
        ("node", "apps", "auto-start", "nonsense", "on"),
        ("node", "transports", "remove", "35f7efdf-9d4f-5878-b635-75ea61b4e567"),
        ("node", "rules", "remove", "17"),
        ("node", "rules", "drop", "17-2a", "1"),
        ("node", "loops", "close", "ffff"),
        ("node", "summary", "--node", "9"),
        ("loop", "trace", "ffff"),
        ("loop", "explain", "ffff"),
        ("logs", "--node", "9"),
        ("logs", "--app", "nonsense"),
        ("testnet", "logs", "node9"),
        ("testnet", "logs", "node1", "--app", "nonsense"),
        ("route", "find", "1", "9"),
        ("route", "find", "1", stranger),
        ("discovery", "routes", net.nodes[0].public_key, stranger),
    )
    answers = await asyncio.gather(*(asyncio.to_thread(skywire, *line, "--dir", str(net.directory)) for line in lines))
    wrong = {" ".join(line): answer for line, answer in zip(lines, answers, strict=True) if answer[0] != 7}
    assert not wrong


async def test_second_testnet_in_the_same_directory_is_refused(net: Testnet) -> None:
    code, error = skywire("testnet", "up", "--nodes", "1", "--dir", str(net.directory))
    assert (code, error["code"]) == (8, "ALREADY_RUNNING")
    assert (await net.nodes[0].admin.summary()).state == "READY"


async def test_somebody_elses_directory_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    code, error = skywire("testnet", "up", "--nodes", "1", "--dir", str(tmp_path))
    assert (code, error["code"]) == (8, "NOT_EMPTY")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


async def test_transport_is_added_and_removed(net: Testnet) -> None:
    first, _, third = net.nodes
    at = ("--node", "1", "--dir", str(net.directory))
    code, added = skywire("node", "transports", "add", third.public_key, *at)
    assert (code, added["state"], added["remote"]) == (0, "UP", third.public_key)
    assert third.key in {transport.remote for transport in await first.admin.transports()}
    code, _ = skywire("node", "transports", "remove", added["transport_id"], *at)
    assert code == 0
    assert third.key not in {transport.remote for transport in await first.admin.transports()}


async def test_killed_node_comes_back_on_its_ports_and_is_linked_again(net: Testnet) -> None:
    last = net.nodes[-1]
    before = dict(last.interfaces)
    epoch = (await last.admin.summary()).epoch
    await last.kill()
    assert last.state.status is Status.FAILED
    with pytest.raises(Failure) as caught:
        await last.admin.summary()
    assert caught.value.code is ErrorCode.UNAVAILABLE
    code, status = skywire("testnet", "status", "--dir", str(net.directory))
    assert (code, status["summaries"][last.name]) == (4, None)
    await net.restart(last)
    await net.connected()
    assert last.interfaces == before
    assert (await last.admin.summary()).epoch != epoch


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


def test_interrupted_start_leaves_nothing(root: Path) -> None:
    line = [*SKYWIRE, "testnet", "up", "--nodes", "2", "--dir", str(root)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        for said in launcher.stdout:
            if said.startswith("node1: starting"):
                break
        state = load(root)
        assert state is not None and processes(state)
        launcher.send_signal(signal.SIGINT)
        launcher.communicate(timeout=DEADLINE)
    assert launcher.returncode == 130
    assert not any(process.alive for process in processes(state))
    assert not root.exists()


def test_detached_testnet_runs_until_it_is_taken_down(root: Path) -> None:
    code, up = skywire("testnet", "up", "--nodes", "1", "--detach", "--dir", str(root))
    assert (code, up["status"]) == (0, "ready")
    state = load(root)
    assert state is not None and state.launcher.alive
    assert skywire("testnet", "status", "--dir", str(root))[0] == 0
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


FULL = """
set -eu
mount -t tmpfs -o size=$1 none "$2"
set +e
timeout 50 "$3" -m skywire_cli testnet up --nodes 2 --dir "$2/net" --json
echo "exit $?"
flock --nonblock "$2/net" true && echo "free"
ls -A "$2/net" | grep '^[.]'
pgrep --full "$2/net"
"$3" -m skywire_cli testnet down --dir "$2/net" --json
ls -A "$2"
"""


@pytest.mark.parametrize("size", [pytest.param("64k", marks=pytest.mark.slow), "200k"])
def test_full_disk_is_told_and_everything_let_go(short_path: Path, size: str) -> None:
    private = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*private, "mount", "-t", "tmpfs", "none", str(short_path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")
    line = [*private, "bash", "-c", FULL, "full", size, str(short_path), sys.executable]
    done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout.splitlines() == ["exit 9", "free", '{"ended": false, "kept": false}'], done
    error = json.loads(done.stderr)
    assert error["code"] == "NO_SPACE"
    assert str(short_path / "net") in error["message"] and "ENOSPC" in error["message"]


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
