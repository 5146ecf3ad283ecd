"""What the demo breaks while it works: the node that carries the file, the setup node that makes a loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from skywire_cli.demo.hops import nodes_of, rules_of
from skywire_cli.demo.outcome import Outcome
from skywire_cli.failures import CliError
from skywire_cli.output import size
from skywire_cli.testnet.network import Node, Testnet

if TYPE_CHECKING:
    from skywire.node.v1 import node_admin_pb2 as pb

    from skywire_cli.demo.run import Steps

_POLL = 0.05
_POLL_WHILE_BROKEN = 0.02
# A frozen hop is given up by the setup node after 2 s; until then the set-up is in its middle.
_MIDDLE_TIMEOUT = 1.8


class Transfer:
    """Follows the one loop of the first node; kills the node in use when half of the file is there."""

    def __init__(self, net: Testnet, outcome: Outcome, steps: Steps) -> None:
        self._net = net
        self._outcome = outcome
        self._steps = steps
        self._acknowledged = 0
        self._moved_at = 0.0

    async def follow(self) -> None:
        """Run until cancelled."""
        while True:
            for loop in await self._net.nodes[0].admin.loops():
                await self._look(loop)
            await asyncio.sleep(_POLL_WHILE_BROKEN if self._outcome.killed else _POLL)

    async def _look(self, loop: pb.Loop) -> None:
        outcome, now = self._outcome, time.monotonic()
        if loop.bytes_acknowledged > self._acknowledged:
            if outcome.killed:
                self._note_pause(now - self._moved_at)
            self._acknowledged, self._moved_at = loop.bytes_acknowledged, now
        outcome.reroutes, outcome.resent = loop.reroutes, loop.bytes_resent
        if not outcome.route:
            outcome.route = await rules_of(self._net, loop)
            if outcome.route:
                self._steps.say(f"  the loop has {len(outcome.route)} rules on {_names(nodes_of(self._net, loop))}")
        elif not outcome.killed and 2 * loop.bytes_acknowledged >= outcome.size:
            await self._kill(nodes_of(self._net, loop)[1])
        elif outcome.killed and loop.reroutes and not outcome.second_route:
            await self._note_second_route(loop)
        done = loop.bytes_acknowledged / outcome.size
        self._steps.progress(f"  {size(loop.bytes_acknowledged)} of {size(outcome.size)}, {done:.0%}")

    async def _kill(self, node: Node) -> None:
        outcome = self._outcome
        outcome.forwarded[node.name] = (await node.admin.summary()).packets_forwarded
        await node.kill()
        outcome.killed = node.name
        self._steps.say(f"  {size(self._acknowledged)} are there: {node.name}, which carries them, is killed (SIGKILL)")

    def _note_pause(self, seconds: float) -> None:
        self._outcome.pause_s = max(self._outcome.pause_s or 0.0, seconds)

    async def _note_second_route(self, loop: pb.Loop) -> None:
        nodes = nodes_of(self._net, loop)
        if self._outcome.killed in {node.name for node in nodes}:
            return
        self._outcome.second_route = await rules_of(self._net, loop)
        if self._outcome.second_route:
            self._steps.say(f"  the loop goes on over {_names(nodes)}")


async def kill_setup_node(net: Testnet, outcome: Outcome, steps: Steps, dial: Callable[[], Awaitable[object]]) -> None:
    """Have an app dial, and kill the setup node when some nodes have done their part and another one has not.

    That one is frozen for the moment. Raises CliError if the set-up did not come so far.
    """
    first, last = net.setup_nodes[0], net.nodes[-1]
    between = [node for node in net.nodes[1:-1] if node.name != outcome.killed]
    for node in between:
        node.pause()
    try:
        await dial()
        until = time.monotonic() + _MIDDLE_TIMEOUT
        while not (reserved := (await last.admin.summary()).reservations):
            if time.monotonic() > until:
                raise CliError("NO_SETUP", "no set-up came to its middle")
            await asyncio.sleep(_POLL_WHILE_BROKEN)
        await first.kill()
    finally:
        for node in between:
            node.resume()
    outcome.setup_node_killed = first.name
    outcome.reserved_then = reserved
    steps.say(f"  {last.name} has reserved {reserved} route ids, {_names(between)} not yet: {first.name} is killed")


def _names(nodes: list[Node]) -> str:
    return ", ".join(node.name for node in nodes)
