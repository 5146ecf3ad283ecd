"""What the demo breaks while it works: the node that carries the file, the setup node that makes a loop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from skywire_cli.demo.hops import nodes_of, rules_of
from skywire_cli.demo.outcome import Outcome, Sent
from skywire_cli.demo.steps import Steps
from skywire_cli.failures import CliError
from skywire_cli.output import size
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.node import Node

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

_POLL = 0.02
_STANDBY_TIMEOUT = 20.0
# A frozen hop is given up by the setup node after 2 s; until then the set-up is in its middle.
_MIDDLE_TIMEOUT = 1.8


class Transfer:
    """Follows the one loop of the first node; kills the node in use when half of the file is there, if it `breaks`."""

    def __init__(self, net: Testnet, sent: Sent, forwarded: dict[str, int], steps: Steps, *, breaks: bool) -> None:
        self._net = net
        self._sent = sent
        self._forwarded = forwarded
        self._steps = steps
        self._breaks = breaks
        self._acknowledged = 0
        self._moved_at = 0.0

    async def follow(self) -> None:
        """Run until cancelled."""
        while True:
            for loop in await self._net.nodes[0].admin.loops():
                await self._look(loop)
            await asyncio.sleep(_POLL)

    async def _look(self, loop: pb.Loop) -> None:
        sent, now = self._sent, time.monotonic()
        if loop.bytes_acknowledged > self._acknowledged:
            if sent.killed:
                sent.pause_s = max(sent.pause_s or 0.0, now - self._moved_at)
            self._acknowledged, self._moved_at = loop.bytes_acknowledged, now
        sent.reroutes, sent.resent = loop.reroutes, loop.bytes_resent
        if not sent.route:
            sent.route = await rules_of(self._net, loop)
            if sent.route:
                self._steps.say(f"  the loop has {len(sent.route)} rules on {names(nodes_of(self._net, loop))}")
        elif self._breaks and not sent.killed and 2 * loop.bytes_acknowledged >= sent.size:
            await self._kill(nodes_of(self._net, loop)[1])
        elif sent.killed and loop.reroutes and not sent.second_route:
            await self._note_second_route(loop)
        done = loop.bytes_acknowledged / sent.size
        self._steps.progress(f"  {size(loop.bytes_acknowledged)} of {size(sent.size)}, {done:.0%}")

    async def _kill(self, node: Node) -> None:
        self._forwarded[node.name] = self._forwarded.get(node.name, 0) + (await node.admin.summary()).packets_forwarded
        await node.kill()
        self._sent.killed = node.name
        self._steps.say(f"  {size(self._acknowledged)} are there: {node.name}, which carries them, is killed (SIGKILL)")

    async def _note_second_route(self, loop: pb.Loop) -> None:
        nodes = nodes_of(self._net, loop)
        if self._sent.killed in {node.name for node in nodes}:
            return
        self._sent.second_route = await rules_of(self._net, loop)
        if self._sent.second_route:
            self._steps.say(f"  the loop goes on over {names(nodes)}")


class Held:
    """An app whose process is stopped (SIGSTOP) within the `with` block; it goes on afterwards as if nothing was."""

    def __init__(self, app: pb.App) -> None:
        self._pid = app.pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)


async def until_standby(net: Testnet, sender: str, steps: Steps) -> None:
    """Hold the sender from the moment its loop is open until both ends have a second pair of routes; raises CliError.

    Half of a small file would be there before there is anything to switch to.
    """
    first, last = net.nodes[0], net.nodes[-1]
    until = time.monotonic() + _STANDBY_TIMEOUT
    while not any(loop.state == "OPEN" for loop in await first.admin.loops()):
        await _once_more(until, "the loop did not open")
    with Held(next(app for app in await first.admin.apps() if app.name == sender)):
        while not all([_has_standby(await node.admin.loops()) for node in (first, last)]):
            await _once_more(until, "no standby route came")
    steps.say("  a second route stands ready at both ends")


async def _once_more(until: float, what: str) -> None:
    if time.monotonic() > until:
        raise CliError("NO_SETUP", f"{what} within {_STANDBY_TIMEOUT:.0f} s")
    await asyncio.sleep(_POLL)


def _has_standby(loops: Sequence[pb.Loop]) -> bool:
    return any(loop.standby == "ready" for loop in loops)


async def kill_setup_node(net: Testnet, outcome: Outcome, steps: Steps, dial: Callable[[], Awaitable[object]]) -> None:
    """Have an app dial, and kill the setup node when some nodes have done their part and another one has not.

    That one is frozen for the moment. Raises CliError if the set-up did not come so far.
    """
    first, last = net.setup_nodes[0], net.nodes[-1]
    between = [node for node in net.nodes[1:-1] if node.name != outcome.dead]
    for node in between:
        node.pause()
    try:
        await dial()
        until = time.monotonic() + _MIDDLE_TIMEOUT
        while not (reserved := (await last.admin.summary()).reservations):
            if time.monotonic() > until:
                raise CliError("NO_SETUP", "no set-up came to its middle")
            await asyncio.sleep(_POLL)
        await first.kill()
    finally:
        for node in between:
            node.resume()
    outcome.setup_node_killed = first.name
    outcome.reserved_then = reserved
    steps.say(f"  {last.name} has reserved {reserved} route ids, {names(between)} not yet: {first.name} is killed")


def names(nodes: list[Node]) -> str:
    """Return the nodes' names."""
    return ", ".join(node.name for node in nodes)
