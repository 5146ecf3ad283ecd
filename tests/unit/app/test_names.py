"""Names that nobody answers for: how many look-ups are under way at once."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest
from skywire_apps import names
from skywire_apps.access import Access
from skywire_apps.names import MAX_LOOKUPS, Address, Names


async def test_lookups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answered = asyncio.Event()

    async def look_up(host: str) -> list[Address]:
        asked.append(host)
        await answered.wait()
        return [ip_address("9.9.9.9")]

    monkeypatch.setattr(names, "_in_thread", look_up)
    exit_ = Names(Access())
    waiting = [asyncio.create_task(exit_.resolve(f"{number}.example", 80)) for number in range(MAX_LOOKUPS + 5)]
    while len(asked) < MAX_LOOKUPS:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asked) == MAX_LOOKUPS
    answered.set()
    await asyncio.gather(*waiting)
    assert len(asked) == MAX_LOOKUPS + 5
