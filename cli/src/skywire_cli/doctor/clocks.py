"""Whose clock is wrong, of several that were read at once. Pure.

The right time is the one that most clocks agree on. If two sides have as many, it is that of the clock which stands
first: callers put the service there that all others call. A single clock is never wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

# Signed calls are refused from a difference of 60 s on; half of that leaves time to act.
MOST_DIFFERENCE_S = 30.0


class Clock(NamedTuple):
    """A clock: whose, where it is set, and how far ahead of the reader's own it is."""

    who: str
    where: str
    ahead_s: float


class Wrong(NamedTuple):
    """A clock that is wrong: `how` says by how much and which way, `than` whose time is right."""

    clock: Clock
    how: str
    than: str


def wrong(clocks: Sequence[Clock]) -> Iterator[Wrong]:
    """Yield every clock that is too far from the right time."""
    if not clocks:
        return
    right = max(clocks, key=lambda one: sum(_agree(one, other) for other in clocks))
    for one in clocks:
        if not _agree(one, right):
            difference = one.ahead_s - right.ahead_s
            yield Wrong(one, f"{abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'}", right.who)


def _agree(one: Clock, other: Clock) -> bool:
    return abs(one.ahead_s - other.ahead_s) <= MOST_DIFFERENCE_S
