"""What one key may ask for per minute: a bucket each, filled at a steady rate.

Counted by each replica for itself. A key that is not heard of for a minute has a full bucket, and is forgotten.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

MAX_KEYS = 65_536
MINUTE_S = 60.0


class Quotas:
    """Quotas per key."""

    def __init__(self, registrations_per_minute: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rate = registrations_per_minute
        self._monotonic = monotonic
        # key: what is left, when it was last filled; the longest untouched first.
        self._buckets: OrderedDict[PublicKey, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def registrations(self, key: PublicKey, count: int) -> None:
        """Take `count` entries from the key's bucket; raises Failure LIMIT_REACHED and takes none."""
        now = self._monotonic()
        left, at = self._buckets.pop(key, (float(self._rate), now))
        left = min(float(self._rate), left + (now - at) * self._rate / MINUTE_S)
        allowed = count <= left
        self._buckets[key] = (left - count if allowed else left, now)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Failure(
                ErrorCode.LIMIT_REACHED,
                f"a key may register {self._rate} entries a minute",
                FailureFields(limit="registrations_per_minute", retryable=True),
            )
