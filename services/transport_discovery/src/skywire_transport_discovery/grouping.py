"""Do together what many callers ask for at once: one transaction for all that came while the last one ran.

A lone caller waits for nobody. Where many come, a round costs much more than what each adds to it, so it waits until
most of those who asked at once of late are there, or its patience is over. A caller that goes away loses its answer
only; its round goes on.
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
# How long after the last round began the next one waits for company: for each that asked at once of late, and in all.
# Of callers that ask again as soon as they are answered, about as many come in that time.
EACH_S = 0.002
PATIENCE_S = 0.08


class Grouper(Generic[T, R]):
    """Rounds of `apply`, which answers each item in order: a value, or a Failure that is raised to its caller.

    A round takes up to MAX_ROUND of weight; beyond MAX_WAITING of weight waiting, callers are refused.
    """

    def __init__(self, name: str, apply: Callable[[list[T]], Awaitable[Sequence[R | Failure]]]) -> None:
        self._name = name
        self._apply = apply
        self._waiting: deque[tuple[T, int, asyncio.Future[R]]] = deque()
        self._weight = 0
        self._task: asyncio.Task[None] | None = None
        # How many ask at once, of late; when the last round began (the loop's time); what ends its wait for company.
        self._company = 1
        self._began = 0.0
        self._gathered: asyncio.Future[None] | None = None

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
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"group {self._name}")
        elif self._gathered is not None and self._most_are_here():
            self._end_of_wait()
        return await future

    async def close(self) -> None:
        """Wait until all that was asked for is answered."""
        while self._task is not None:
            await self._task

    async def _run(self) -> None:
        # One turn of the loop: callers that were woken by the same read come along.
        await asyncio.sleep(0)
        try:
            while self._waiting:
                if not self._most_are_here():
                    await self._gather()
                self._began = asyncio.get_running_loop().time()
                taken = self._take()
                await self._round(taken)
                here = len(taken) + len(self._waiting)
                self._company = max(here, self._most_of_company())
        finally:
            self._task = None

    def _most_of_company(self) -> int:
        return self._company - self._company // 4 - 1

    def _most_are_here(self) -> bool:
        """Say whether there are too few to wait for, or no room for more."""
        return len(self._waiting) >= self._most_of_company() or self._weight >= MAX_ROUND

    async def _gather(self) -> None:
        """Wait until most are here, unless patience is over."""
        loop = asyncio.get_running_loop()
        until = self._began + min(PATIENCE_S, EACH_S * self._company)
        if until <= loop.time():
            return
        self._gathered = loop.create_future()
        timer = loop.call_at(until, self._end_of_wait)
        try:
            await self._gathered
        finally:
            timer.cancel()
            self._gathered = None

    def _end_of_wait(self) -> None:
        if self._gathered is not None and not self._gathered.done():
            self._gathered.set_result(None)

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
