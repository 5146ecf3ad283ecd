"""When the routing table has to look at which set-up: a heap by the earliest instant at which a lease may end."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from skywire_node.routing.leases import Setup

# Entries of set-ups that are gone may be as many as those of live ones and this many more.
MAX_DEAD = 1_000


class Schedule:
    """Set-ups by `due`. `live` holds those that are not gone, by their key; entries of others are passed over.

    An instant that moves later needs no call: the entry comes up early, is looked at and put back.
    """

    def __init__(self, live: Mapping[bytes, Setup]) -> None:
        self._live = live
        self._heap: list[Setup] = []

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float | None:
        """When the first live set-up comes up, monotonic seconds; None if there is none."""
        heap = self._heap
        while heap and not self.holds(heap[0]):
            heapq.heappop(heap)
        return heap[0].due if heap else None

    def holds(self, setup: Setup) -> bool:
        """Say whether a set-up is not gone."""
        return self._live.get(setup.key) is setup

    def add(self, setup: Setup) -> None:
        """Have a set-up come up when it is due."""
        heapq.heappush(self._heap, setup)

    def hasten(self, setup: Setup, due: float) -> None:
        """Have a set-up come up at `due`, if that is earlier; walks through all of them."""
        if due < setup.due:
            setup.due = due
            heapq.heapify(self._heap)

    def pop(self, now: float) -> Setup | None:
        """Take out the set-up that is due first, live or gone; None if none is due by `now`."""
        heap = self._heap
        return heapq.heappop(heap) if heap and heap[0].due <= now else None

    def overdue(self, since: float) -> Iterator[Setup]:
        """Yield the set-ups that were due by `since`, live or gone, without taking them out."""
        heap, at = self._heap, [0]
        while at:
            index = at.pop()
            if index < len(heap) and heap[index].due <= since:
                at += (2 * index + 1, 2 * index + 2)
                yield heap[index]

    def begin(self, setups: Iterable[Setup]) -> None:
        """Hold these and nothing else."""
        self._heap = list(setups)
        heapq.heapify(self._heap)

    def compact(self) -> None:
        """Leave no more entries of gone set-ups than of live ones, and MAX_DEAD."""
        if len(self._heap) > 2 * len(self._live) + MAX_DEAD:
            self.begin(setup for setup in self._heap if self.holds(setup))
