"""Racing: order of starts, the first success, what is final, and what becomes of late winners."""

from __future__ import annotations

import asyncio

import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_node.loops.racing import race


class Track:
    """Attempts that end when the test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.discarded: list[str] = []
        self.ends: dict[str, asyncio.Future[str]] = {}

    async def attempt(self, name: str) -> str:
        self.started.append(name)
        self.ends[name] = asyncio.get_running_loop().create_future()
        return await self.ends[name]

    async def until_started(self, count: int) -> None:
        while len(self.started) < count:
            await asyncio.sleep(0)


def failure(code: ErrorCode = ErrorCode.DEADLINE) -> Failure:
    return Failure(code, "no")


async def test_the_first_success_wins_and_a_later_one_is_discarded() -> None:
    track = Track()
    racing = asyncio.create_task(race("abc", track.attempt, track.discarded.append, stagger=0.001))
    await track.until_started(3)
    track.ends["b"].set_result("b")
    assert await racing == "b"
    track.ends["c"].set_result("c")
    track.ends["a"].set_exception(failure())
    await asyncio.sleep(0.01)
    assert track.discarded == ["c"]


async def test_a_failure_starts_the_next_one_at_once() -> None:
    track = Track()
    racing = asyncio.create_task(race("ab", track.attempt, track.discarded.append, stagger=1000))
    await track.until_started(1)
    track.ends["a"].set_exception(failure())
    await track.until_started(2)
    track.ends["b"].set_result("b")
    assert await racing == "b"


async def test_when_all_fail_the_first_failure_is_raised() -> None:
    track = Track()
    racing = asyncio.create_task(race("ab", track.attempt, track.discarded.append, stagger=1000))
    await track.until_started(1)
    track.ends["a"].set_exception(failure(ErrorCode.NO_ROUTE))
    await track.until_started(2)
    track.ends["b"].set_exception(failure())
    with pytest.raises(Failure) as raised:
        await racing
    assert raised.value.code is ErrorCode.NO_ROUTE


async def test_a_final_failure_ends_the_race_without_another_start() -> None:
    track = Track()
    racing = asyncio.create_task(
        race("ab", track.attempt, track.discarded.append, lambda ends: ends.code is ErrorCode.PORT_CLOSED, 1000)
    )
    await track.until_started(1)
    track.ends["a"].set_exception(failure(ErrorCode.PORT_CLOSED))
    with pytest.raises(Failure):
        await racing
    assert track.started == ["a"]


async def test_a_bug_is_no_failure_and_loud() -> None:
    async def broken(name: str) -> str:
        raise RuntimeError(name)

    with pytest.raises(RuntimeError):
        await race("ab", broken, print)
