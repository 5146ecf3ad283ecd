"""Whether and when an app that ended is started again."""

from __future__ import annotations

from enum import StrEnum

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
# Who ran this long has recovered: the next delay is short again.
STEADY_S = 60.0


class RestartPolicy(StrEnum):
    """When to start an app again that was not stopped by its owner."""

    NEVER = "never"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Restarts:
    """Count an app's restarts; delays double from 1 s to 60 s, with full jitter."""

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.count = 0
        self._row = 0

    def after(self, *, in_order: bool, ran_s: float, jitter: float) -> float | None:
        """Return the seconds to wait before the next start, None for no start. `jitter` is from 0 to 1."""
        if self.policy is RestartPolicy.NEVER or (in_order and self.policy is RestartPolicy.ON_FAILURE):
            return None
        if ran_s >= STEADY_S:
            self._row = 0
        ceiling = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(self._row, 30))
        self._row += 1
        self.count += 1
        return ceiling * jitter

    def forget(self) -> None:
        """Start with short delays again: the owner started the app."""
        self._row = 0
