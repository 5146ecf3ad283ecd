"""Names that nobody answers for: how many look-ups are under way at once."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from skywire_apps.access import Access
from skywire_apps.names import MAX_LOOKUPS, Names


async def test_lookups_are_bounded_though_nobody_waits_for_them_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    all_asked, answered = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        if len(asked) == MAX_LOOKUPS:
            loop.call_soon_threadsafe(all_asked.set)
        answered.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("9.9.9.9", 0))]

    exit_ = Names(Access())
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", look_up)
        given_up = [asyncio.create_task(exit_.resolve(f"{number}.example", 80)) for number in range(MAX_LOOKUPS)]
        await all_asked.wait()
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        waiting = asyncio.create_task(exit_.resolve("late.example", 80))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(asked) == MAX_LOOKUPS
        answered.set()
        await waiting
    assert asked[MAX_LOOKUPS:] == ["late.example"]
