"""How much of a loop may be under way at once: a window steered by delay, and by loss where delay came too late.

Every loop aims for the same short queue on its route: while the round trip stays within TARGET_QUEUE of the best one
seen, the window grows (doubling per round trip until the first sign of a queue, then by INCREASE); above it, it
shrinks in proportion to the excess, at most once per round trip. Loops that share a link see the same queue, grow by
the same amount and shrink by the same factor, so their shares even out; loops to one node by one link share what they
know of the best round trip too, or a late one would take the others' queue for distance. A lost packet shrinks the
window by LOSS_FACTOR.
"""

from __future__ import annotations

import math

INITIAL_WINDOW = 512 * 1024
MIN_WINDOW = 128 * 1024
MAX_WINDOW = 8 * 1024 * 1024
INCREASE = 64 * 1024  # bytes per round trip
TARGET_QUEUE = 0.015  # seconds
GENTLE = 0.8  # how much of the excess delay is taken off at once
LOSS_FACTOR = 0.7
HELD = 1.0  # seconds; a smoothed round trip above that had packets in it that were held back somewhere
FRESH = 0.25  # seconds; a round trip below that says that this is over
FORGET_BEST = 10.0  # seconds after which the best round trip must be seen again

_SMOOTH = 0.125
_SMOOTH_VARIATION = 0.25
_INITIAL_PROBE = 1.0
_MIN_PROBE = 0.2
MAX_PROBE = 4.0


class Floor:
    """The best round trip of a way, in seconds; infinite while unknown. One that is not seen again is forgotten."""

    __slots__ = ("__weakref__", "_next", "_since", "best")

    def __init__(self) -> None:
        self.best = math.inf
        self._next = math.inf
        self._since = 0.0

    def measure(self, round_trip: float, now: float) -> None:
        """Take one measured round trip."""
        self.best = min(self.best, round_trip)
        self._next = min(self._next, round_trip)
        if now - self._since > FORGET_BEST:
            self.best, self._next, self._since = self._next, round_trip, now


class Congestion:
    """The window of one direction, in bytes, and what is known of the round trip, in seconds."""

    __slots__ = ("_floor", "_recover_until", "_starting", "smoothed", "variation", "window")

    def __init__(self, floor: Floor | None = None) -> None:
        """`floor` is shared by all loops that go the same way."""
        self.window = INITIAL_WINDOW
        self.smoothed = 0.0
        self.variation = 0.0
        self._floor = floor or Floor()
        self._starting = True
        self._recover_until = 0.0

    def on_ack(self, acknowledged: int, round_trip: float | None, limited: bool, now: float) -> None:
        """Take note of newly acknowledged bytes; `limited`: the window, not the app, held the sender back."""
        if round_trip is not None:
            self.measure(round_trip, now)
        latest = round_trip if round_trip is not None else self.smoothed
        excess = latest - self._floor.best - TARGET_QUEUE
        if excess > 0:
            self._starting = False
            if now >= self._recover_until:
                self._shrink(max(1.0 - GENTLE * excess / latest, 0.5), now)
        elif limited:
            grown = acknowledged if self._starting else INCREASE * acknowledged // self.window
            self.window = min(self.window + grown, MAX_WINDOW)

    def on_loss(self, now: float) -> None:
        """Take note that packets were dropped on the way."""
        self._starting = False
        if now >= self._recover_until:
            self._shrink(LOSS_FACTOR, now)

    def restart(self, floor: Floor | None = None) -> None:
        """Forget what was learned of a route that is no longer used."""
        self.__init__(floor)  # type: ignore[misc]

    def probe_after(self) -> float:
        """Return after how many silent seconds the oldest packet is sent again."""
        if self.smoothed == 0.0:
            return _INITIAL_PROBE
        return max(self.smoothed + 4 * self.variation, _MIN_PROBE)

    def measure(self, round_trip: float, now: float) -> None:
        """Take one measured round trip."""
        round_trip = max(round_trip, 1e-6)
        if self.smoothed == 0.0 or (self.smoothed > HELD and round_trip < FRESH):
            self.smoothed, self.variation = round_trip, round_trip / 2
        self.variation += _SMOOTH_VARIATION * (abs(round_trip - self.smoothed) - self.variation)
        self.smoothed += _SMOOTH * (round_trip - self.smoothed)
        self._floor.measure(round_trip, now)

    def _shrink(self, factor: float, now: float) -> None:
        self.window = max(int(self.window * factor), MIN_WINDOW)
        self._recover_until = now + self.smoothed
