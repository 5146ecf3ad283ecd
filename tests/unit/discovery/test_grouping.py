"""Rounds: who comes while one runs goes together in the next; failures are each one's own."""

from __future__ import annotations

import asyncio

import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery import grouping
from skywire_transport_discovery.grouping import Grouper


class Doubling:
    """Doubles numbers, refuses negative ones, and waits for `go`."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.go = asyncio.Event()

    async def apply(self, items: list[int]) -> list[int | Failure]:
        self.rounds.append(items)
        await self.go.wait()
        if 0 in items:
            raise ZeroDivisionError
        return [2 * item if item > 0 else Failure(ErrorCode.CONFLICT, "negative") for item in items]


async def test_who_comes_meanwhile_goes_together() -> None:
    doubling = Doubling()
    grouper = Grouper("test", doubling.apply)
    first = asyncio.create_task(grouper.submit(1))
    while not doubling.rounds:
        await asyncio.sleep(0)
    others = [asyncio.create_task(grouper.submit(number)) for number in range(2, 50)]
    refused = asyncio.create_task(grouper.submit(-1))
    gone = asyncio.create_task(grouper.submit(99))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    doubling.go.set()
    assert [await first, *await asyncio.gather(*others)] == [2 * number for number in range(1, 50)]
    with pytest.raises(Failure, match="negative"):
        await refused
    await grouper.close()
    assert doubling.rounds == [[1], [*range(2, 50), -1]]
    assert grouper.waiting == 0


async def test_what_a_round_fails_with_comes_to_all_of_it_and_the_next_goes_on() -> None:
    doubling = Doubling()
    doubling.go.set()
    grouper = Grouper("test", doubling.apply)
    found = await asyncio.gather(grouper.submit(0), grouper.submit(1), return_exceptions=True)
    assert [type(one) for one in found] == [ZeroDivisionError, ZeroDivisionError]
    assert await grouper.submit(4) == 8


async def test_rounds_and_waiting_are_bounded() -> None:
    doubling = Doubling()
    grouper = Grouper("test", doubling.apply)
    half = grouping.MAX_ROUND // 2
    tasks = [asyncio.create_task(grouper.submit(number, half)) for number in range(1, 8)]
    while not doubling.rounds:
        await asyncio.sleep(0)
    assert doubling.rounds == [[1, 2]]
    tasks.append(asyncio.create_task(grouper.submit(9, grouping.MAX_WAITING - grouper.waiting)))
    await asyncio.sleep(0)
    with pytest.raises(Failure) as failure:
        await grouper.submit(10)
    assert failure.value.fields.limit == "test_waiting"
    doubling.go.set()
    await asyncio.gather(*tasks)
    assert doubling.rounds == [[1, 2], [3, 4], [5, 6], [7], [9]]


async def test_where_many_come_a_round_waits_for_most_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "EACH_S", 1000.0)
    monkeypatch.setattr(grouping, "PATIENCE_S", 1000.0)
    doubling = Doubling()
    grouper = Grouper("test", doubling.apply)

    def ask(numbers: range) -> list[asyncio.Task[int]]:
        return [asyncio.create_task(grouper.submit(number)) for number in numbers]

    first = ask(range(1, 2))
    while not doubling.rounds:
        await asyncio.sleep(0)
    first += ask(range(2, 41))
    doubling.go.set()
    await asyncio.gather(*first)
    half = ask(range(1, 21))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(doubling.rounds) == 2
    await asyncio.gather(*half, *ask(range(21, 31)))
    assert doubling.rounds[2:] == [[*range(1, 31)]]


async def test_who_comes_alone_waits_for_nobody_once_the_others_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "EACH_S", 0.0)
    doubling = Doubling()
    doubling.go.set()
    grouper = Grouper("test", doubling.apply)
    await asyncio.gather(*(grouper.submit(number) for number in range(1, 65)))
    for number in range(1, 12):
        await grouper.submit(number)
    doubling.rounds.clear()
    monkeypatch.setattr(grouping, "EACH_S", 1000.0)
    monkeypatch.setattr(grouping, "PATIENCE_S", 1000.0)
    assert [await grouper.submit(number) for number in range(1, 4)] == [2, 4, 6]
    assert doubling.rounds == [[1], [2], [3]]
