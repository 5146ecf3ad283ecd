"""What was opened is closed in reverse order, within the grace; what dies is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from skywire_common.runtime.scope import Scope


class Log:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **_: self.events.append((level, event))


def scope(grace: float = 10.0) -> tuple[Scope, Log]:
    log: Any = Log()
    return Scope(log, grace), log


async def test_closers_run_in_reverse_and_tasks_in_their_turn() -> None:
    made, _ = scope()
    order: list[str] = []

    def closes(name: str) -> Callable[[], Awaitable[None]]:
        async def close() -> None:
            order.append(name)

        return close

    async def works() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("task")

    made.defer(closes("first"))
    task = made.spawn(works(), "works")
    made.defer(closes("last"))
    await asyncio.sleep(0)
    await made.close()
    assert order == ["last", "task", "first"]
    assert task.cancelled()
    assert not made.failed


async def test_a_task_that_dies_ends_the_service() -> None:
    made, log = scope()

    async def dies() -> None:
        raise ValueError("x")

    task = made.spawn(dies(), "heartbeat")
    async with asyncio.timeout(10):
        await made.stopping.wait()
    assert task.done()
    assert made.failed
    assert ("critical", "heartbeat died") in log.events
    await made.close()


async def test_a_task_that_ends_is_forgotten() -> None:
    made, _ = scope()

    async def ends() -> int:
        return 7

    for _ in range(100):
        assert await made.spawn(ends(), "ends") == 7
    await asyncio.sleep(0)
    assert not made._closers
    assert not made.stopping.is_set()
    await made.close()


async def test_a_closer_that_fails_is_told_and_the_others_run() -> None:
    made, log = scope()
    closed = []

    async def first() -> None:
        closed.append("first")

    async def fails() -> None:
        raise OSError("disk full")

    made.defer(first)
    made.defer(fails)
    await made.close()
    assert closed == ["first"]
    assert made.failed
    assert ("error", "closing failed") in log.events


async def test_the_grace_bounds_a_closer_that_hangs() -> None:
    made, log = scope(grace=0.05)
    closed = []

    async def first() -> None:
        closed.append("first")

    async def hangs() -> None:
        await asyncio.Event().wait()

    made.defer(first)
    made.defer(hangs)
    async with asyncio.timeout(10):
        await made.close()
    assert closed == ["first"]
    assert not made.failed
    assert [level for level, _ in log.events] == ["warning"]


async def test_a_closer_hears_what_it_may_take() -> None:
    made, _ = scope(grace=10.0)
    heard = []
    assert made.grace == 10.0

    async def close() -> None:
        heard.append(made.grace)

    made.defer(close)
    await made.close()
    assert 7.0 < heard[0] <= 8.0


async def test_stopping_is_said_once() -> None:
    made, log = scope()
    made.stop("SIGTERM")
    made.stop("SIGINT")
    assert made.stopping.is_set()
    assert log.events == [("info", "stopping")]
    await made.close()


@pytest.mark.parametrize("count", [1, 50])
async def test_what_is_deferred_while_closing_is_closed_too(count: int) -> None:
    made, _ = scope()
    closed = []

    async def late() -> None:
        closed.append(1)

    async def close() -> None:
        for _ in range(count):
            made.defer(late)

    made.defer(close)
    await made.close()
    assert len(closed) == count
