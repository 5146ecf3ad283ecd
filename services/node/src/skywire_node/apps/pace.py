"""How many frames an app may make its node read. Pure.

A bucket that holds a second's worth and fills evenly. What was read is handled, so the bucket may go below empty; its
owner then reads no more until it is level again. Nothing is lost: what the app writes waits in its pipe, then the app
in its write.
"""

from __future__ import annotations


class Pace:
    """One app's bucket. `now` is any steady clock, in seconds."""

    def __init__(self, frames_per_s: int, now: float) -> None:
        self.frames_per_s = frames_per_s
        self._left = float(frames_per_s)
        self._at = now

    def spend(self, frames: int, now: float) -> float:
        """Count frames that were read; return for how many seconds no more may be."""
        self._left = min(float(self.frames_per_s), self._left + (now - self._at) * self.frames_per_s) - frames
        self._at = now
        return max(0.0, -self._left / self.frames_per_s)
