"""Several ways to the same end, begun one after the other; the first success wins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from skywire_common.errors import Failure

STAGGER = 0.3  # seconds between starts, unless the one before has failed already

C = TypeVar("C")
R = TypeVar("R")


async def race(
    candidates: Sequence[C],
    attempt: Callable[[C], Awaitable[R]],
    discard: Callable[[R], None],
    final: Callable[[Failure], bool] = lambda failure: False,
    stagger: float = STAGGER,
) -> R:
    """Return the first result; raise the first Failure if all fail, or one that is `final` as soon as it comes.

    A later success is given to `discard`.

    Attempts are never cancelled half-way: what they did elsewhere can only be undone by whoever knows how they ended.
    """
    running: list[asyncio.Task[R]] = []  # in the order of their starts
    failures: list[Failure] = []
    waiting = list(candidates)

    def late(task: asyncio.Task[R]) -> None:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())

    try:
        while waiting or running:
            if waiting:
                running.append(asyncio.ensure_future(attempt(waiting.pop(0))))
            await asyncio.wait(running, timeout=stagger if waiting else None, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in running if task.done()]
            running = [task for task in running if not task.done()]
            winner: asyncio.Task[R] | None = None
            for task in done:
                error = task.exception()
                if error is None:
                    if winner is None:
                        winner = task
                    else:
                        discard(task.result())
                elif isinstance(error, Failure):
                    failures.append(error)
                else:
                    raise error
            if winner is not None:
                return winner.result()
            ends = next((failure for failure in failures if final(failure)), None)
            if ends is not None:
                raise ends
        raise failures[0]
    finally:
        for task in running:
            task.add_done_callback(late)
