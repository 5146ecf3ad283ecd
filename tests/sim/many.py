"""The property test over many seeds, on several processes, as far as one likes.

    python -m sim.many COUNT [FIRST [PROCESSES]]

Says every 1,000 seeds how far it is, and ends at the first seed that does not hold, with how to see its story.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator

import structlog
from sim.chaos import Chaos
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey

SAY_EVERY = 1_000
MOST_SHARED = 1_000


def attempt(seed: int) -> tuple[int, str]:
    """Run one seed; return it with what did not hold, empty if all did."""
    try:
        Chaos(seed).run()
    except Exception:  # noqa: BLE001 - it is told with its seed
        return seed, traceback.format_exc()
    return seed, ""


def _remember_secrets() -> None:
    """Compute what two keys share once, not at both ends: there both are in one process."""
    compute = SecretKey.ecdh
    shared: dict[frozenset[bytes], bytes] = {}

    def ecdh(self: SecretKey, public: PublicKey | bytes) -> bytes:
        pair = frozenset((bytes(self.public), bytes(public)))
        found = shared.get(pair)
        if found is None:
            if len(shared) >= MOST_SHARED:
                shared.clear()
            found = shared[pair] = compute(self, public)
        return found

    SecretKey.ecdh = ecdh  # type: ignore[method-assign]


def _quiet() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )
    _remember_secrets()
    gc.freeze()  # what was imported stays, and need not be looked through again and again


def attempts(seeds: range, processes: int) -> Iterator[tuple[int, str]]:
    """Run all seeds; yield each as it is done, in order."""
    if processes == 1:
        _quiet()
        yield from map(attempt, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _quiet, maxtasksperchild=SAY_EVERY) as pool:
        yield from pool.imap(attempt, seeds, chunksize=10)


def main() -> None:
    count = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count() or 1
    began = time.monotonic()
    for done, (seed, wrong) in enumerate(attempts(range(first, first + count), processes), 1):
        if wrong:
            raise SystemExit(f"{wrong}\nseed {seed} does not hold; replay: SKYWIRE_SIM_SEED={seed} pytest -s tests/sim")
        if done % SAY_EVERY == 0 or done == count:
            rate = done / (time.monotonic() - began)
            print(f"{done} seeds hold, {first} to {seed}; {rate:.1f} a second", flush=True)


if __name__ == "__main__":
    main()
