"""Which signed calls came already: each is good once (docs/wire-format.md, Signed calls)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rpc.identity import WINDOW_MS

# More than one process can verify in the time that it must remember them, so only their memory (about 100 bytes a
# call) is bounded here, not the rate of honest callers.
MAX_REMEMBERED = 1 << 19
MAX_REMEMBERED_PER_KEY = 1 << 18
# A call is accepted from one window before its time to one window after it.
REMEMBER_S = 2 * WINDOW_MS / 1000


class ReplayGuard(Protocol):
    """Remembers signed calls for their window."""

    async def first_use(self, key: PublicKey, nonce: bytes, until: float) -> bool:
        """Say whether this is the first call of `key` with these random bytes; `until` is epoch seconds.

        Raises Failure: LIMIT_REACHED with the limit's name, UNAVAILABLE if it cannot remember just now.
        """


class MemoryReplays:
    """A replay guard for a service with one process.

    Calls are kept in buckets by the second in which their window ends: a replay has the same. A bucket goes when no
    call came into it for REMEMBER_S of the monotonic clock, so that a jump of the wall clock forgets nothing.
    """

    def __init__(
        self,
        capacity: int = MAX_REMEMBERED,
        per_key: int = MAX_REMEMBERED_PER_KEY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._per_key = per_key
        self._monotonic = monotonic
        self._buckets: dict[int, _Bucket] = {}
        self._count: dict[PublicKey, int] = {}
        self._total = 0
        self._sweep_at = monotonic() + 1

    def __len__(self) -> int:
        return self._total

    async def first_use(self, key: PublicKey, nonce: bytes, until: float) -> bool:
        """See ReplayGuard; never waits."""
        now = self._monotonic()
        if now >= self._sweep_at:
            self._sweep(now)
        bucket = self._buckets.get(int(until))
        if bucket is not None and nonce in bucket.used.get(key, ()):
            return False
        self._check_limits(key)
        if bucket is None:
            bucket = self._buckets[int(until)] = _Bucket()
        bucket.used.setdefault(key, set()).add(nonce)
        bucket.last = now
        self._count[key] = self._count.get(key, 0) + 1
        self._total += 1
        return True

    def _check_limits(self, key: PublicKey) -> None:
        for count, bound, name in (
            (self._total, self._capacity, "remembered_calls"),
            (self._count.get(key, 0), self._per_key, "remembered_calls_per_key"),
        ):
            if count >= bound:
                raise Failure(
                    ErrorCode.LIMIT_REACHED,
                    f"{bound} signed calls are remembered already; the oldest goes within {REMEMBER_S:.0f} s",
                    FailureFields(limit=name, retryable=True),
                )

    def _sweep(self, now: float) -> None:
        """Drop the buckets that no valid call can fall into any more; once a second at most."""
        self._sweep_at = now + 1
        for second in [second for second, bucket in self._buckets.items() if now - bucket.last > REMEMBER_S]:
            for key, nonces in self._buckets.pop(second).used.items():
                self._total -= len(nonces)
                left = self._count[key] - len(nonces)
                if left:
                    self._count[key] = left
                else:
                    del self._count[key]


class _Bucket:
    """The calls whose windows end in one second, by key."""

    __slots__ = ("last", "used")

    def __init__(self) -> None:
        self.used: dict[PublicKey, set[bytes]] = {}
        self.last = 0.0
