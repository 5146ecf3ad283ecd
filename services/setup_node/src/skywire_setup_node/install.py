"""Make loops: all of a plan, or nothing that outlives its lease (docs/architecture.md, What happens when an app dials).

Theory of operation. One task per set-up id runs the attempt. The first step that fails decides what the caller
hears, at once; then, in the background, every node that did or might have done something is told to take it back,
each by a task of its own that first waits for a step still under way there. Another try with the same set-up id
waits for those of its own nodes: a late undo never meets new work, and a dead node holds up no route around it.

    caller ──make──▶ task ──▶ answer, remembered for 30 s
                       └────▶ Failure ──▶ undo at each node (own deadline, tried again)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, NamedTuple, Protocol

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

from skywire_setup_node.attempt import STEP_SECONDS, Attempt, Clock, Made, NodeClient
from skywire_setup_node.plan import Close, LoopRequest, Remove, Undo, reservations, undo

UNDO_SECONDS = 6.0
UNDO_PAUSE = 0.5
MAX_RUNNING = 1_024
MAX_RUNNING_PER_INITIATOR = 128
MAX_UNDOING = 8_192
MAX_REMEMBERED = 4_096
# As long as unused rules live: after that the same answer would speak of rules that are gone.
REMEMBERED_SECONDS = 30.0

# What time may cure; any other answer to an undo is the node's last word.
_CURABLE = (
    ErrorCode.UNAVAILABLE,
    ErrorCode.DEADLINE,
    ErrorCode.STOPPING,
    ErrorCode.LIMIT_REACHED,
    ErrorCode.DISCOVERY_STALE,
    ErrorCode.CLOCK_SKEW,
)

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


class _Run(NamedTuple):
    request: LoopRequest
    task: asyncio.Task[Made]


class Installer:
    """Make loops, one task for each set-up id; `drain` before the process ends."""

    def __init__(self, nodes: NodeClient, clock: Clock, log: Log) -> None:
        self._nodes = nodes
        self._clock = clock
        self._log = log
        self._runs: dict[Key, _Run] = {}
        self._undoing: dict[tuple[Key, PublicKey], asyncio.Task[None]] = {}
        self._remembered: OrderedDict[Key, _Remembered] = OrderedDict()
        self._running: dict[PublicKey, int] = {}
        self.made = 0
        self.failed = 0
        self.not_undone = 0

    @property
    def under_way(self) -> int:
        """Set-ups under way."""
        return len(self._runs)

    @property
    def undoing(self) -> int:
        """Nodes at which a failed set-up is being undone."""
        return len(self._undoing)

    async def make(self, request: LoopRequest) -> Made:
        """Set the loop or its new routes up, or raise Failure; asked again with the same id, answer the same.

        A caller that goes away does not stop it: its next call finds the result.
        """
        key = (request.initiator.public_key, request.setup_id)
        nodes = [step.node for step in reservations(request)]
        while undoing := [task for node in nodes if (task := self._undoing.get((key, node)))]:
            await asyncio.wait(undoing)
        self._forget_old()
        run = self._runs.get(key)
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
        while tasks := {run.task for run in self._runs.values()} | set(self._undoing.values()):
            await asyncio.wait(tasks)

    def _start(self, key: Key, request: LoopRequest) -> _Run:
        initiator = key[0]
        mine = self._running.get(initiator, 0)
        if mine >= MAX_RUNNING_PER_INITIATOR:
            raise _limit("setups_per_initiator", MAX_RUNNING_PER_INITIATOR, request)
        if len(self._runs) >= MAX_RUNNING:
            raise _limit("setups", MAX_RUNNING, request)
        if len(self._undoing) >= MAX_UNDOING:
            raise _limit("undos", MAX_UNDOING, request)
        self._running[initiator] = mine + 1
        task = asyncio.create_task(self._run(key, request), name=f"set-up {request.setup_id.hex()}")
        # The failure is logged where it happens: a caller that went away leaves nobody to fetch it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        run = self._runs[key] = _Run(request, task)
        return run

    async def _run(self, key: Key, request: LoopRequest) -> Made:
        attempt = Attempt(self._nodes, request, self._clock)
        try:
            made = await attempt.run()
        except BaseException as error:
            self.failed += 1
            self._log.warning("set-up failed", reason=str(error), **_names(request))
            self._begin_undo(key, attempt)
            raise
        finally:
            del self._runs[key]
            self._count_down(key[0])
        self.made += 1
        self._log.info("loop set up", **_names(request))
        self._remembered[key] = _Remembered(request, made, self._clock.monotonic() + REMEMBERED_SECONDS)
        return made

    def _begin_undo(self, key: Key, attempt: Attempt) -> None:
        """Take back what the attempt did or might have done, at all nodes at once."""
        at: dict[PublicKey, list[Undo]] = {}
        for step in undo(attempt.request, attempt.touched):
            at.setdefault(step.node, []).append(step)
        for node, steps in at.items():
            name = f"undo {attempt.request.setup_id.hex()} at {node.short}"
            self._undoing[key, node] = asyncio.create_task(self._undo(key, attempt, node, steps), name=name)

    async def _undo(self, key: Key, attempt: Attempt, node: PublicKey, steps: list[Undo]) -> None:
        try:
            await attempt.settle(node)
            reason = await self._undo_at(attempt.request, steps)
            if reason:
                self.not_undone += 1
                names = _names(attempt.request)
                self._log.warning("not undone: leases end there", node=node.short, reason=reason, **names)
        finally:
            del self._undoing[key, node]

    async def _undo_at(self, request: LoopRequest, steps: list[Undo]) -> str:
        """Undo at one node, again and again until UNDO_SECONDS are over; return why it was not done, "" if it was."""
        give_up = self._clock.monotonic() + UNDO_SECONDS
        reason = "no time"
        while (left := give_up - self._clock.monotonic()) > 0:
            try:
                for step in steps:
                    seconds = min(STEP_SECONDS, left)
                    async with asyncio.timeout(seconds):
                        await self._undo_step(request, step, seconds)
            except TimeoutError:
                reason = "no answer"
            except Failure as failure:
                reason = str(failure)
                if failure.code not in _CURABLE:
                    break
            else:
                return ""
            await asyncio.sleep(min(UNDO_PAUSE, left))
        return reason

    async def _undo_step(self, request: LoopRequest, step: Undo, timeout: float) -> None:
        match step:
            case Remove():
                await self._nodes.undo(step.node, request.setup_id, timeout)
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
    return names | {
        "responder": request.responder.public_key.short,
        "loop_id": (request.loop_id or request.setup_id).hex(),
    }


def _limit(name: str, most: int, request: LoopRequest) -> Failure:
    return Failure(
        ErrorCode.LIMIT_REACHED,
        f"at most {most} {name.replace('_', ' ')} at a time",
        FailureFields(limit=name, retryable=True, setup_id=request.setup_id),
    )
