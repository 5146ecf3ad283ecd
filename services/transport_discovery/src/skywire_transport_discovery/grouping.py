"""Do together what many callers ask for at once: one transaction for all that came while the last one ran.

A lone caller waits for nobody. Where many come, a round costs much more than what each adds to it, so it waits while
more keep coming, until PATIENCE_S after the last one began. A caller that goes away loses its answer only; its round
goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from skywire_common.errors import ErrorCode, Failure, FailureFields

T = TypeVar("T")
R = TypeVar("R")

MAX_WAITING = 8192
MAX_ROUND = 1024
# How long a round waits for company, and between two looks whether more came.
PATIENCE_S = 0.012
LOOK_S = 0.001


class Grouper(Generic[T, R]):
    """Rounds of `apply`, which answers each item in order: a value, or a Failure that is raised to its caller.

    A round takes up to MAX_ROUND of weight; beyond MAX_WAITING of weight waiting, callers are refused.
    """

    def __init__(
        self, name: str, apply: Callable[[list[T]], Awaitable[Sequence[R | Failure]]], rounds_at_once: int = 1
    ) -> None:
        self._name = name
        self._apply = apply
        self._waiting: deque[tuple[T, int, asyncio.Future[R]]] = deque()
        self._weight = 0
        self._free = rounds_at_once
        # How many ask at once, of late; and when the last round began (the loop's time).
        self._company = 1
        self._began = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Weight of what waits for a round."""
        return self._weight

    async def submit(self, item: T, weight: int = 1) -> R:
        """Return the item's answer; raises its Failure, or what the whole round failed with."""
        if self._weight + weight > MAX_WAITING:
            raise Failure(
                ErrorCode.LIMIT_REACHED,
                f"{self._weight} requests wait for the database",
                FailureFields(limit=f"{self._name}_waiting", retryable=True),
            )
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, weight, future))
        self._weight += weight
        if self._free:
            self._free -= 1
            task = asyncio.create_task(self._run(), name=f"group {self._name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await future

    async def close(self) -> None:
        """Wait until all that was asked for is answered."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _run(self) -> None:
        # One turn of the loop: callers that were woken by the same read come along.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                if self._company > 1:
                    await self._gather()
                taken = self._take()
                await self._round(taken)
                here = len(taken) + len(self._waiting)
                self._company = max(here, self._company - self._company // 4 - 1)
        finally:
            self._free += 1

    async def _gather(self) -> None:
        """Wait while more come, unless patience is over."""
        loop = asyncio.get_running_loop()
        until = self._began + PATIENCE_S
        seen = 0
        while seen != len(self._waiting) and loop.time() < until:
            seen = len(self._waiting)
            await asyncio.sleep(LOOK_S)
        self._began = loop.time()

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        taken: list[tuple[T, asyncio.Future[R]]] = []
        total = 0
        while self._waiting and (not taken or total + self._waiting[0][1] <= MAX_ROUND):
            item, weight, future = self._waiting.popleft()
            total += weight
            self._weight -= weight
            if not future.cancelled():
                taken.append((item, future))
        return taken

    async def _round(self, taken: list[tuple[T, asyncio.Future[R]]]) -> None:
        if not taken:
            return
        try:
            answers = await self._apply([item for item, _ in taken])
        except Exception as error:  # noqa: BLE001 - handed to every caller, who decides
            for _, future in taken:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(taken, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Failure):
                future.set_exception(answer)
            else:
                future.set_result(answer)
