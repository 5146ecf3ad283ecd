"""What watchers are shown: the last changes in a ring, each watcher no more than a place in it.

A watcher that is slower than the ring turns, and one that comes with a revision from before it, is told to start anew:
what a watcher costs here is bounded, however slow it is. While nobody watches the ring stays empty; whoever comes back
then is told from the log what was missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from skywire_transport_discovery.standing import Transport

RING = 8192
MAX_WATCHERS = 256


class Event(NamedTuple):
    """A transport changed; `transport` is None if it was forgotten."""

    revision: int
    transport_id: bytes
    transport: Transport | None


class Ring:
    """The last RING events. `revision` is what the graph is at; `generation` counts how often all was forgotten."""

    def __init__(self) -> None:
        self.revision = 0
        self.generation = 0
        self.watchers = 0
        # Every event above this revision is in the ring.
        self._floor = 0
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()

    def reset(self, revision: int) -> None:
        """Forget everything: the graph was loaded anew, at this revision."""
        self.generation += 1
        self._events.clear()
        self._floor = self.revision = revision
        self._wake()

    def publish(self, revision: int, events: Sequence[Event]) -> None:
        """Add the events that lead up to a revision, in order."""
        self._events.extend(events)
        while len(self._events) > RING:
            self._floor = self._events.popleft().revision
        self.revision = revision
        self._wake()

    def pass_over(self, revision: int) -> None:
        """Go to a revision without the events that lead up to it: nobody watches."""
        self._events.clear()
        self._floor = self.revision = revision
        self._wake()

    def after(self, revision: int) -> list[Event] | None:
        """Return the events above a revision, oldest first; None if the ring does not reach back so far."""
        if revision < self._floor or revision > self.revision:
            return None
        newer: list[Event] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            newer.append(event)
        newer.reverse()
        return newer

    async def wait(self, revision: int, generation: int) -> None:
        """Wait until there is more than this revision, or another generation."""
        while self.revision <= revision and self.generation == generation:
            await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
