"""Make loops: all of a plan, or nothing that outlives its lease (control-plane.md, Setting up a loop).

Theory of operation. One task per set-up id runs the attempt. The first step that fails decides what the caller
hears, at once; then, in the background, the steps still under way are waited for and every node that did or might
have done something is told to take it back. Only then is the set-up id free for another try: a late undo never meets
new work.

    caller ──make──▶ task ──▶ answer, remembered for 30 s
                       └────▶ Failure ──▶ undo (own deadline, tried again) ──▶ id is free
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

from skywire_setup_node.attempt import STEP_SECONDS, Attempt, Clock, Made, NodeClient
from skywire_setup_node.plan import Close, LoopRequest, Remove, Undo, undo

UNDO_SECONDS = 6.0
UNDO_PAUSE = 0.5
MAX_RUNNING = 1_024
MAX_RUNNING_PER_INITIATOR = 128
MAX_REMEMBERED = 4_096
# As long as unused rules live: after that the same answer would speak of rules that are gone.
REMEMBERED_SECONDS = 30.0

Key = tuple[PublicKey, bytes]


class Log(Protocol):
    """As much of a structlog logger as is used here."""

    def info(self, event: str, **values: Any) -> Any:
        """Note what happened."""

    def warning(self, event: str, **values: Any) -> Any:
        """Note what an operator may want to know."""


class _Remembered(NamedTuple):
    request: LoopRequest
    made: Made
    until: float


class _Run:
    """A set-up under way, or one that failed and is being undone."""

    __slots__ = ("request", "task", "undone")

    def __init__(self, request: LoopRequest) -> None:
        self.request = request
        self.task: asyncio.Task[Made]
        self.undone: asyncio.Task[None] | None = None


class Installer:
    """Make loops, one task for each set-up id; `drain` before the process ends."""

    def __init__(self, nodes: NodeClient, clock: Clock, log: Log) -> None:
        self._nodes = nodes
        self._clock = clock
        self._log = log
        self._runs: dict[Key, _Run] = {}
        self._remembered: OrderedDict[Key, _Remembered] = OrderedDict()
        self._running: dict[PublicKey, int] = {}
        self.made = 0
        self.failed = 0
        self.not_undone = 0

    @property
    def under_way(self) -> int:
        """Set-ups under way and set-ups being undone."""
        return len(self._runs)

    async def make(self, request: LoopRequest) -> Made:
        """Set the loop or its new routes up, or raise Failure; asked again with the same id, answer the same.

        A caller that goes away does not stop it: its next call finds the result.
        """
        key = (request.initiator.public_key, request.setup_id)
        while (run := self._runs.get(key)) is not None and run.undone is not None:
            await asyncio.wait((run.undone,))
        self._forget_old()
        known = self._remembered.get(key)
        before = run.request if run is not None else known.request if known is not None else request
        if before != request:
            raise Failure(
                ErrorCode.CONFLICT, "this set-up id has another request", FailureFields(setup_id=request.setup_id)
            )
        if known is not None:
            return known.made
        if run is None:
            run = self._start(key, request)
        return await asyncio.shield(run.task)

    async def drain(self) -> None:
        """Wait until every set-up and every undo is over; their own deadlines bound it."""
        while self._runs:
            await asyncio.wait({run.undone or run.task for run in self._runs.values()})

    def _start(self, key: Key, request: LoopRequest) -> _Run:
        initiator = key[0]
        mine = self._running.get(initiator, 0)
        if mine >= MAX_RUNNING_PER_INITIATOR:
            raise _limit("set-ups per initiator", MAX_RUNNING_PER_INITIATOR, request)
        if len(self._runs) >= MAX_RUNNING:
            raise _limit("set-ups", MAX_RUNNING, request)
        self._running[initiator] = mine + 1
        run = self._runs[key] = _Run(request)
        run.task = asyncio.create_task(self._run(key, run), name=f"set-up {request.setup_id.hex()}")
        # The failure is logged where it happens: a caller that went away leaves nobody to fetch it.
        run.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return run

    async def _run(self, key: Key, run: _Run) -> Made:
        request = run.request
        attempt = Attempt(self._nodes, request, self._clock)
        try:
            made = await attempt.run()
        except BaseException as error:
            self.failed += 1
            self._log.warning("set-up failed", reason=str(error), **_names(request))
            run.undone = asyncio.create_task(self._undo(key, attempt), name=f"undo {request.setup_id.hex()}")
            raise
        finally:
            self._count_down(key[0])
        self.made += 1
        self._log.info("loop set up", **_names(request))
        self._remembered[key] = _Remembered(request, made, self._clock.monotonic() + REMEMBERED_SECONDS)
        del self._runs[key]
        return made

    async def _undo(self, key: Key, attempt: Attempt) -> None:
        """Take back what the attempt did or might have done, at all nodes at once; then free the set-up id."""
        try:
            await attempt.settle()
            at: dict[PublicKey, list[Undo]] = {}
            for step in undo(attempt.request, attempt.touched):
                at.setdefault(step.node, []).append(step)
            done = await asyncio.gather(*(self._undo_at(attempt.request, steps) for steps in at.values()))
            unreached = [node.short for node, undone in zip(at, done, strict=True) if not undone]
            if unreached:
                self.not_undone += 1
                self._log.warning("not undone everywhere: leases end there", nodes=unreached, **_names(attempt.request))
        finally:
            del self._runs[key]

    async def _undo_at(self, request: LoopRequest, steps: list[Undo]) -> bool:
        """Undo at one node, again and again until UNDO_SECONDS are over; say whether it was done."""
        give_up = self._clock.monotonic() + UNDO_SECONDS
        while (left := give_up - self._clock.monotonic()) > 0:
            try:
                for step in steps:
                    seconds = min(STEP_SECONDS, left)
                    async with asyncio.timeout(seconds):
                        await self._undo_step(request, step, seconds)
            except (Failure, TimeoutError):
                await asyncio.sleep(min(UNDO_PAUSE, left))
            else:
                return True
        return False

    async def _undo_step(self, request: LoopRequest, step: Undo, timeout: float) -> None:
        match step:
            case Remove():
                await self._nodes.remove(step.node, request.setup_id, (), timeout)
            case Close():
                await self._nodes.loop_closed(step.node, request.setup_id, "the set-up failed", step.app_id, timeout)

    def _count_down(self, initiator: PublicKey) -> None:
        self._running[initiator] -= 1
        if not self._running[initiator]:
            del self._running[initiator]

    def _forget_old(self) -> None:
        """Drop answers that are too old to be right or too many to keep."""
        now = self._clock.monotonic()
        while self._remembered:
            key, oldest = next(iter(self._remembered.items()))
            if oldest.until > now and len(self._remembered) <= MAX_REMEMBERED:
                break
            del self._remembered[key]


def _names(request: LoopRequest) -> dict[str, str]:
    """Return what every log line of a set-up carries."""
    names = {"setup_id": request.setup_id.hex(), "initiator": request.initiator.public_key.short}
    return names | {"responder": request.responder.public_key.short, "loop_id": (request.loop_id or b"").hex()}


def _limit(name: str, most: int, request: LoopRequest) -> Failure:
    return Failure(
        ErrorCode.LIMIT_REACHED,
        f"at most {most} {name} at a time",
        FailureFields(limit=name, retryable=True, setup_id=request.setup_id),
    )
