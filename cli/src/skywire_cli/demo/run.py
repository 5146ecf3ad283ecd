"""The demo's steps, one after the other; what they find goes into an Outcome.

The received file is hashed here, not by the app that received it, and the processes are looked for after the end by
the pids they had.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skywire_cli.demo.breaking import Transfer, kill_setup_node, until_standby
from skywire_cli.demo.files import NET, check_room, look_at, make_file, workplace
from skywire_cli.demo.outcome import Outcome, Sent
from skywire_cli.demo.steps import Steps
from skywire_cli.failures import CliError
from skywire_cli.output import size
from skywire_cli.testnet.command import printed_by
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import AppPlan, Plan, Topology, links
from skywire_cli.testnet.signals import stop_on_signals
from skywire_cli.testnet.state import Status

FILECOPY_PORT = 11
HELLOWORLD_PORT = 12
STANDBY_PORT = 13
VERSION = "1.0"
# A second app of the same program, whose loops hold two routes ready.
WITH_STANDBY = "filecopy-standby"
SENT = "sent.bin"
SENT_WITH_STANDBY = "sent-with-standby.bin"
STANDBY_SIZE = 64 << 20
# Bytes for logs and databases, beside the files that are sent and received.
ROOM = 16 << 20
STANDBY_REPORT = "transfer-with-standby.json"
INBOX = "received"
TRANSFER_REPORT = "transfer.json"
PING_REPORT = "pings.json"
APP_TIMEOUT = 600.0
# Bytes per second that the busiest machine still carries; a large file has as much more time.
SLOWEST = 2 << 20
SETUP_NODES = 2
# A node that was killed comes back with the rules that it had. The loop has left them: they end when they were idle for
# so long (s), six times longer if nobody says otherwise.
IDLE_LIMIT = 30.0
# What a killed setup node had nodes reserve ends by its lease, 30 s; all else goes with its loop.
SETTLE_TIMEOUT = 40.0
_POLL = 0.05
_LINES_SHOWN = 5


async def run(outcome: Outcome, nodes: int, directory: Path | None, keep: bool, steps: Steps) -> None:
    """Run the demo until its end or a signal; raises CliError. Whatever happens, nothing keeps running."""
    on_second_signal: list[Callable[[], None]] = []

    def kill_all() -> None:
        for kill in on_second_signal:
            kill()

    stop = stop_on_signals(kill_all)
    working = asyncio.create_task(_demo(outcome, nodes, directory, keep, steps, on_second_signal))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        await working
        return
    steps.say("interrupted: taking everything down")
    working.cancel()
    await asyncio.wait((working,))
    raise CliError("INTERRUPTED", "interrupted, and nothing is left running")


async def _demo(
    outcome: Outcome, nodes: int, directory: Path | None, keep: bool, steps: Steps, kill: list[Callable[[], None]]
) -> None:
    processes: set[ProcessId] = set()
    places: list[Path] = []
    try:
        with workplace(directory, keep) as place:
            places.append(place)
            check_room(place, 2 * outcome.size + (2 * STANDBY_SIZE if outcome.breaks else 0) + ROOM)
            steps.say(f"making a file of {size(outcome.size)} that does not compress")
            outcome.sent_sha256 = await asyncio.to_thread(make_file, place / SENT, outcome.size)
            shape = f"{outcome.topology} of {nodes}"
            steps.say(f"starting a discovery, {SETUP_NODES} setup nodes and a {shape} nodes, each a process")
            net = Testnet(_plan(nodes, place, outcome), place / NET, shape=shape, keep=keep)
            kill.append(net.kill_all)
            net.follow(steps.services)
            async with net:
                places += [node.socket for node in net.nodes]
                processes = await _processes(net)
                outcome.middle = [node.name for node in net.nodes[1:-1]]
                await _transfer(net, place, outcome, steps)
                await _ping(net, place, outcome, steps)
                if outcome.breaks:
                    await _transfer_with_standby(net, place, outcome, steps)
                await _look_at_nodes(net, outcome, steps)
                processes |= await _processes(net)
                steps.say("taking everything down")
    finally:
        outcome.left = [
            *(f"process {process.pid}" for process in processes if process.alive),
            *(str(path) for path in dict.fromkeys(places) if path.exists() and not (keep and path == places[0])),
        ]


def _plan(nodes: int, place: Path, outcome: Outcome) -> Plan:
    topology, remote = Topology(outcome.topology), f"{{node{nodes}}}"
    filecopy = (sys.executable, "-m", "skywire_apps.filecopy")
    helloworld = (sys.executable, "-m", "skywire_apps.helloworld")

    def sending(name: str, port: int, file: str, report: str) -> AppPlan:
        line = ("send", str(place / file), f"{remote}:{port}", "--output", str(place / report))
        return AppPlan(name, VERSION, port, filecopy, line, standby=name == WITH_STANDBY)

    def receiving(name: str, port: int) -> AppPlan:
        line = ("receive", str(place / INBOX))
        return AppPlan(name, VERSION, port, filecopy, line, auto_start=True, standby=name == WITH_STANDBY)

    pinging = (
        *("--dial", f"{remote}:{HELLOWORLD_PORT}", "--count", str(outcome.pings)),
        *("--output", str(place / PING_REPORT)),
    )
    first = [
        sending("filecopy", FILECOPY_PORT, SENT, TRANSFER_REPORT),
        AppPlan("helloworld", VERSION, HELLOWORLD_PORT, helloworld, pinging),
    ]
    last = [
        receiving("filecopy", FILECOPY_PORT),
        AppPlan("helloworld", VERSION, HELLOWORLD_PORT, helloworld, auto_start=True),
    ]
    if outcome.breaks:
        first.append(sending(WITH_STANDBY, STANDBY_PORT, SENT_WITH_STANDBY, STANDBY_REPORT))
        last.append(receiving(WITH_STANDBY, STANDBY_PORT))
    apps = {0: tuple(first), nodes - 1: tuple(last)}
    return Plan(nodes, links(nodes, topology), SETUP_NODES, apps=apps, limits={"idle_limit_s": IDLE_LIMIT})


async def _transfer(net: Testnet, place: Path, outcome: Outcome, steps: Steps) -> None:
    first = net.nodes[0]
    steps.say(f"sending the file from {first.name} to {net.nodes[-1].name}, app to app")
    await first.admin.start_app("filecopy")
    await _followed(net, outcome, outcome, "filecopy", steps)
    await _note_arrival(outcome, place / TRANSFER_REPORT, place / INBOX / SENT, steps)


async def _transfer_with_standby(net: Testnet, place: Path, outcome: Outcome, steps: Steps) -> None:
    """Send a second file while a second route stands ready, kill the node in use, and have no setup node help."""
    first = net.nodes[0]
    sent = outcome.standby = Sent(min(outcome.size, STANDBY_SIZE))
    sent.sent_sha256 = await asyncio.to_thread(make_file, place / SENT_WITH_STANDBY, sent.size)
    again = next(node for node in net.nodes if node.name == outcome.killed)
    steps.say(f"{again.name} is started again; then {size(sent.size)} more, with a standby route held ready")
    await net.restart(again)
    await net.connected()
    await first.admin.start_app(WITH_STANDBY)
    await until_standby(net, WITH_STANDBY, steps)
    for setup_node in net.setup_nodes:
        await setup_node.kill()
    outcome.without = [setup_node.name for setup_node in net.setup_nodes]
    steps.say("  the other setup node is killed too: nobody can set up another route")
    await _followed(net, outcome, sent, WITH_STANDBY, steps)
    await _note_arrival(sent, place / STANDBY_REPORT, place / INBOX / SENT_WITH_STANDBY, steps, held=True)


async def _followed(net: Testnet, outcome: Outcome, sent: Sent, app: str, steps: Steps) -> None:
    """Watch a transfer, and break what is to be broken, until its app ends."""
    transfer = Transfer(net, sent, outcome.forwarded, steps, breaks=outcome.breaks)
    watching = asyncio.create_task(transfer.follow())
    try:
        await _until_stopped(net.nodes[0], app, APP_TIMEOUT + sent.size / SLOWEST)
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


async def _note_arrival(sent: Sent, report: Path, received: Path, steps: Steps, *, held: bool = False) -> None:
    seconds = float(_read(report)["seconds"])
    sent.transfer_s = None if held else seconds
    sent.received_size, sent.received_sha256 = await asyncio.to_thread(look_at, received)
    steps.say(f"  arrived{f', {sent.megabytes_per_s:.0f} MB/s' if sent.megabytes_per_s else ''}")


async def _ping(net: Testnet, place: Path, outcome: Outcome, steps: Steps) -> None:
    first = net.nodes[0]
    steps.say(f"pinging {outcome.pings} times from {first.name} to {net.nodes[-1].name}, app to app")
    if outcome.breaks:
        steps.say(f"  in the middle of its set-up {net.setup_nodes[0].name} shall die")
        await kill_setup_node(net, outcome, steps, lambda: first.admin.start_app("helloworld"))
    else:
        await first.admin.start_app("helloworld")
    await _until_stopped(first, "helloworld")
    report = _read(place / PING_REPORT)
    outcome.answered = int(report["count"])
    outcome.round_trip_p50_us = float(report["p50_us"])
    outcome.round_trip_p99_us = float(report["p99_us"])
    steps.say(f"  round trip p50 {outcome.round_trip_p50_us:.0f} µs, p99 {outcome.round_trip_p99_us:.0f} µs")


async def _until_stopped(node: Node, name: str, timeout: float = APP_TIMEOUT) -> None:
    """Wait for the end of an app; raises CliError unless it ended with exit code 0."""
    deadline = asyncio.get_running_loop().time() + timeout
    while (app := next(app for app in await node.admin.apps() if app.name == name)).state != "STOPPED":
        if asyncio.get_running_loop().time() > deadline:
            raise CliError("DEADLINE", f"{name} on {node.name} did not end within {timeout:.0f} s")
        await asyncio.sleep(_POLL)
    if app.reason != "exit code 0":
        last = "\n".join(printed_by(name, node.log)[-_LINES_SHOWN:])
        hint = "with --keep the logs stay"
        raise CliError("APP_FAILED", f"{name} on {node.name}: {app.reason}", hint, {"it said": last})


async def _look_at_nodes(net: Testnet, outcome: Outcome, steps: Steps) -> None:
    """Wait until rules and loops are gone, or note what is left."""
    leased = ": what the dead had in hand is leased for 30 s" if outcome.breaks else ""
    steps.say(f"waiting until nothing is left on the nodes{leased}")
    alive = [node for node in net.nodes if node.name != outcome.dead]
    before = dict(outcome.forwarded)  # by those that were killed
    deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT
    while True:
        summaries = {node.name: await node.admin.summary() for node in alive}
        outcome.forwarded |= {name: before.get(name, 0) + said.packets_forwarded for name, said in summaries.items()}
        outcome.rules_left = {name: said.rules + said.reservations for name, said in summaries.items()}
        outcome.loops_left = {name: said.loops for name, said in summaries.items()}
        left = sum(outcome.rules_left.values()) + sum(outcome.loops_left.values())
        seconds = deadline - asyncio.get_running_loop().time()
        if not left or seconds < 0:
            return
        steps.progress(f"  {left} rules, reservations and loops are left, for {seconds:.0f} s at most")
        await asyncio.sleep(_POLL)


async def _processes(net: Testnet) -> set[ProcessId]:
    """Return every process of the net, apps included."""
    found = {service.state.process for service in net.services}
    running = [node for node in net.nodes if node.state.status is Status.READY]
    found |= {ProcessId.of(app.pid) for node in running for app in await node.admin.apps() if app.pid}
    return {process for process in found if process is not None}


def _read(report: Path) -> dict[str, Any]:
    try:
        document = json.loads(report.read_bytes())
    except FileNotFoundError as error:
        raise CliError("NO_REPORT", f"the app wrote no {report.name}") from error
    if not isinstance(document, dict):
        raise CliError("NO_REPORT", f"{report.name} is no JSON object")
    return document
