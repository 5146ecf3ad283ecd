"""Waiting for something that an event announces, without a poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

DEADLINE = 20


async def until(news: asyncio.Event, is_so: Callable[[], bool]) -> None:
    """Wait until something is so; `news` is set by whoever may have made it so. Raises TimeoutError."""
    async with asyncio.timeout(DEADLINE):
        while not is_so():
            news.clear()
            if not is_so():
                await news.wait()
