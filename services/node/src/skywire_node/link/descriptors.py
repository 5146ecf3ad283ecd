"""File descriptors as links see them: the last RESERVE of the process are for its apps, files and callers.

The kernel gives the lowest number that is free, so the number of a new connection tells how many are in use.
"""

from __future__ import annotations

import resource
from collections.abc import Callable

import structlog

RESERVE = 32
SAID_FOR = 10.0  # seconds after the last refusal

log = structlog.get_logger(part="link")


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Descriptors:
    """Says which connections may stay, and while it refuses any, why."""

    def __init__(self, limit: Callable[[], int] = _limit) -> None:
        self.refused = 0
        self._limit = limit
        self._last = float("-inf")

    def admits(self, descriptor: int, now: float) -> bool:
        """Say whether a connection of this number may stay; -1: one without a descriptor of its own."""
        limit = self._limit()
        if descriptor < 0 or limit < 0 or descriptor < limit - RESERVE:
            return True
        if now - self._last > SAID_FOR:
            log.error("out of file descriptors: new links are refused", limit=limit, reserve=RESERVE)
        self.refused += 1
        self._last = now
        return False

    def reason(self, now: float) -> str:
        """Say what keeps links away just now; empty if nothing does."""
        if now - self._last > SAID_FOR:
            return ""
        return f"out of file descriptors: new links are refused (limit {self._limit()}; LimitNOFILE, ulimit -n)"
