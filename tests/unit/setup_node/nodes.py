"""Nodes for tests of the installer: real routing tables behind calls that a script can fail, lose or delay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rules import PlacedRule
from skywire_node.routing.table import RoutingTable
from skywire_setup_node.attempt import Confirmed
from skywire_setup_node.plan import Confirm, LoopRequest

SETUP_NODE = b"\x02" * 33
EPOCH = 1_800_000_000.0


class StillClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = random.random() * 1e6

    def monotonic(self) -> float:
        return self.now

    def epoch(self) -> float:
        return EPOCH + self.now


class ScriptedNodes:
    """Every node a table; `script` maps the number of a call (from 0) to what goes wrong with it.

    refuse: nothing happens, UNAVAILABLE. lose: it happens, the answer is lost. hang: it happens, no answer ever.
    late: no answer, and it happens only when `release` is called.
    """

    def __init__(self, clock: StillClock, script: dict[int, str] | None = None) -> None:
        self.clock = clock
        self.script = script or {}
        self.calls: list[tuple[str, PublicKey]] = []
        self.tables: dict[PublicKey, RoutingTable] = {}
        self.loops: dict[bytes, int] = {}
        self.release = asyncio.Event()
        self.owner = SETUP_NODE
        self._random = random.Random(random.random())

    def table(self, node: PublicKey) -> RoutingTable:
        return self.tables.setdefault(node, RoutingTable(lambda _: True))

    def state(self) -> tuple[int, int, int]:
        """Return how many rules, reservations and loops there are on all nodes."""
        rules = sum(len(table.rules) for table in self.tables.values())
        return rules, sum(table.reserved for table in self.tables.values()), len(self.loops)

    async def _call(self, name: str, node: PublicKey) -> str:
        fate = self.script.get(len(self.calls), "")
        self.calls.append((name, node))
        await asyncio.sleep(0)
        if fate == "refuse":
            raise Failure(ErrorCode.UNAVAILABLE, "connection refused")
        if fate == "late":
            await self.release.wait()
        return fate

    async def _answer(self, fate: str) -> None:
        if fate == "lose":
            raise Failure(ErrorCode.UNAVAILABLE, "connection lost")
        if fate == "hang":
            await asyncio.Event().wait()

    async def reserve(self, node: PublicKey, setup_id: bytes, wanted: int, timeout: float) -> tuple[int, ...]:
        owner = self.owner
        fate = await self._call("reserve", node)
        draw = lambda: self._random.getrandbits(32)  # noqa: E731
        ids = self.table(node).reserve(setup_id, wanted, self.clock.now, draw, owner=owner)
        await self._answer(fate)
        return tuple(ids)

    async def add_rules(
        self, node: PublicKey, setup_id: bytes, rules: Sequence[PlacedRule], edges: bytes, timeout: float
    ) -> None:
        owner = self.owner
        fate = await self._call("add", node)
        self.table(node).install(setup_id, rules, self.clock.now, self.clock.epoch(), owner=owner, edges=edges)
        await self._answer(fate)

    async def confirm(self, step: Confirm, request: LoopRequest, timeout: float) -> Confirmed:
        fate = await self._call("confirm", step.node)
        self.loops[request.loop_id or request.setup_id] = step.app_id
        await self._answer(fate)
        return Confirmed(b"" if request.loop_id else bytes(49), 77)

    async def undo(self, node: PublicKey, setup_id: bytes, timeout: float) -> None:
        owner = self.owner
        fate = await self._call("undo", node)
        self.table(node).undo(setup_id, owner=owner)
        await self._answer(fate)

    async def loop_closed(self, node: PublicKey, loop_id: bytes, reason: str, app_id: int, timeout: float) -> None:
        fate = await self._call("closed", node)
        if not app_id or self.loops.get(loop_id) == app_id:
            self.loops.pop(loop_id, None)
        await self._answer(fate)
