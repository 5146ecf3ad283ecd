"""One run of a plan at the nodes: reserve, install tier by tier, confirm; every failure names its hop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.rules import PlacedRule

from skywire_setup_node.plan import (
    Confirm,
    Install,
    LoopRequest,
    Plan,
    Reserve,
    Step,
    hop_index,
    plan,
    reservations,
)

STEP_SECONDS = 2.0
SETUP_SECONDS = 10.0
# Failures that say nothing about the node: whoever avoids nodes that failed must not learn its name from them.
NOT_ITS_FAULT = (ErrorCode.DISCOVERY_STALE, ErrorCode.CLOSED)

R = TypeVar("R")
S = TypeVar("S", Reserve, Install, Confirm)


class Confirmed(NamedTuple):
    """What the responder answered: Noise message 2 (49 bytes; empty on a reroute) and its epoch."""

    noise_message: bytes
    responder_epoch: int


class Made(NamedTuple):
    """A set-up that succeeded; expiry is epoch seconds."""

    plan: Plan
    confirmed: Confirmed
    expiry: int


class NodeClient(Protocol):
    """Calls to nodes. Each ends within `timeout` seconds and raises Failure; repeating one changes nothing more."""

    async def reserve(self, node: PublicKey, setup_id: bytes, wanted: int, timeout: float) -> tuple[int, ...]:
        """Reserve route ids."""

    async def add_rules(
        self, node: PublicKey, setup_id: bytes, rules: Sequence[PlacedRule], edges: bytes, timeout: float
    ) -> None:
        """Install rules under reserved ids, all or none, for the edges with these tags."""

    async def confirm(self, step: Confirm, request: LoopRequest, timeout: float) -> Confirmed:
        """Offer the loop, or its new routes, to the responder."""

    async def undo(self, node: PublicKey, setup_id: bytes, timeout: float) -> None:
        """Remove everything that this setup node holds there for the set-up."""

    async def loop_closed(self, node: PublicKey, loop_id: bytes, reason: str, app_id: int, timeout: float) -> None:
        """Say that a loop is over; with `app_id` only if its packets arrive on that id."""


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds that never jump."""

    def epoch(self) -> float:
        """Seconds since 1970."""


class Attempt:
    """One run of a plan; `touched` lists every step that was begun, whether or not it was done."""

    def __init__(self, nodes: NodeClient, request: LoopRequest, clock: Clock) -> None:
        self.request = request
        self.touched: list[Step] = []
        self._nodes = nodes
        self._clock = clock
        self._ends = clock.monotonic() + SETUP_SECONDS
        self._under_way: dict[PublicKey, asyncio.Task[Any]] = {}

    async def run(self) -> Made:
        """Do every step; raises the Failure of the first that failed, with phase, hop and set-up id."""
        reserves = reservations(self.request)
        given = await self._all(Phase.RESERVE, reserves, self._reserve)
        expiry = int(self._clock.epoch()) + self.request.time_to_live
        made = plan(self.request, {step.node: ids for step, ids in zip(reserves, given, strict=True)}, expiry)
        for tier in made.tiers:
            await self._all(Phase.INSTALL, tier, self._install)
        (confirmed,) = await self._all(Phase.CONFIRM, (made.confirm,), self._confirm)
        return Made(made, confirmed, expiry)

    async def settle(self, node: PublicKey) -> None:
        """Wait for the step that was under way at a node when another one failed; it has its own deadline."""
        task = self._under_way.get(node)
        if task is not None:
            await asyncio.wait((task,))

    async def _reserve(self, step: Reserve) -> tuple[int, ...]:
        ids = await self._nodes.reserve(step.node, self.request.setup_id, step.wanted, self._left())
        if len(ids) != step.wanted or len(set(ids)) != step.wanted or 0 in ids:
            raise Failure(ErrorCode.INTERNAL, f"the node gave other than {step.wanted} different route ids")
        return ids

    async def _install(self, step: Install) -> None:
        await self._nodes.add_rules(step.node, self.request.setup_id, step.rules, self.request.edges, self._left())

    async def _confirm(self, step: Confirm) -> Confirmed:
        return await self._nodes.confirm(step, self.request, self._left())

    def _left(self) -> float:
        return max(0.0, min(STEP_SECONDS, self._ends - self._clock.monotonic()))

    async def _all(self, phase: Phase, steps: Sequence[S], do: Callable[[S], Coroutine[Any, Any, R]]) -> list[R]:
        """Begin all steps at once; return their results in order, or raise what failed first."""
        self.touched += steps
        if len(steps) == 1:
            # Tiers of one node are the common case and need no task.
            return [await self._one(phase, steps[0], do)]
        tasks = [asyncio.create_task(self._one(phase, step, do)) for step in steps]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        self._under_way = {step.node: task for step, task in zip(steps, tasks, strict=True) if not task.done()}
        for task in tasks:
            task.add_done_callback(_seen)
        failed = [error for task in tasks if task.done() and (error := task.exception())]
        if failed:
            raise failed[0]
        return [task.result() for task in tasks]

    async def _one(self, phase: Phase, step: S, do: Callable[[S], Coroutine[Any, Any, R]]) -> R:
        """Do one step within its deadline; its failure says where."""
        where: dict[str, Any] = {
            "phase": phase,
            "hop_index": hop_index(self.request.routes, step.node),
            "hop_key": step.node,
            "setup_id": self.request.setup_id,
        }
        seconds = self._left()
        try:
            async with asyncio.timeout(seconds):
                return await do(step)
        except TimeoutError as error:
            cause = f"no answer within {seconds:.1f} s"
            raise Failure(ErrorCode.DEADLINE, cause, FailureFields(retryable=True, **where)) from error
        except Failure as failure:
            if failure.code in NOT_ITS_FAULT or failure.fields.limit == "channels":
                raise failure.within(phase=phase, setup_id=self.request.setup_id) from failure
            raise failure.within(**where) from failure


def _seen(task: asyncio.Task[Any]) -> None:
    """Take note of a failure that comes after the first one: the undo covers it."""
    if not task.cancelled():
        task.exception()
