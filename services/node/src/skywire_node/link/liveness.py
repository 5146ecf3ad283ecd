"""Whether a link still lives, by what was heard of its other end (docs/wire-format.md, Link, 4).

    heard ──10 s of silence──▶ ping, again every 5 s ──25 s of silence──▶ dead

Any byte counts as life. It also bounds how many route errors the link may send. No clock is read here: `now` is
monotonic seconds.
"""

from __future__ import annotations

from enum import Enum

PING_AFTER = 10.0  # seconds of silence
PING_AGAIN = 5.0
DEAD_AFTER = 25.0  # seconds of silence
ROUTE_ERRORS_PER_SECOND = 50


class Due(Enum):
    """What a look at a link's silence asks for."""

    NOTHING = 0
    PING = 1
    END = 2


class Liveness:
    """One link's silence. Set `heard_at` whenever a byte comes, `look` once a second."""

    __slots__ = ("_errors_left", "_pinged_at", "heard_at")

    def __init__(self, now: float) -> None:
        self.heard_at = now
        self._pinged_at = 0.0
        self._errors_left = ROUTE_ERRORS_PER_SECOND

    def look(self, now: float) -> Due:
        """Say what is due, once a second; a ping that this asks for counts as sent."""
        self._errors_left = ROUTE_ERRORS_PER_SECOND
        silent = now - self.heard_at
        if silent >= DEAD_AFTER:
            return Due.END
        if silent >= PING_AFTER and now - self._pinged_at >= PING_AGAIN:
            self._pinged_at = now
            return Due.PING
        return Due.NOTHING

    def may_complain(self) -> bool:
        """Say whether one more route error may be sent before the next look, and count it."""
        if not self._errors_left:
            return False
        self._errors_left -= 1
        return True
