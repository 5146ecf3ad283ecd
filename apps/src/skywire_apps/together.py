"""Tasks that live and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def until_one_ends(*works: Coroutine[Any, Any, None], left: Callable[[], float] | None = None) -> None:
    """Run all until one ends, and end the others; raises what it raised.

    `left` says how many seconds more they may go on, and is asked anew when those are over: 0 or less ends all.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    done: set[asyncio.Task[None]] = set()
    try:
        seconds = left() if left is not None else None
        while not done and (seconds is None or seconds > 0):
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            seconds = left() if left is not None else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
