"""Check entries that somebody wants registered: sizes and sums at once, signatures in turns.

A signature costs 50 µs, so a large request is checked in slices, between which the loop serves others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

SLICE = 16


async def check_entries(edge: PublicKey, entries: Sequence[SignedEntry]) -> None:
    """Check that every entry is right, signed by both edges, and the caller's own.

    Raises DecodeError, or Failure PERMISSION_DENIED.
    """
    for index, signed in enumerate(entries):
        if edge not in signed.entry.edges:
            raise Failure(
                ErrorCode.PERMISSION_DENIED,
                f"{edge} is no edge of transport {signed.entry.transport_id}",
                FailureFields(transport_id=signed.entry.transport_id.bytes),
            )
        if index and index % SLICE == 0:
            await asyncio.sleep(0)
        signed.check()
