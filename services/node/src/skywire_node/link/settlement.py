"""Settlement: the two ends of a fresh link agree on their transport's entry (docs/wire-format.md, Link, 3).

dialler  ── settle:  the entry with the dialler's signature ──▶  acceptor: checks, signs, registers
         ◀── settled: the complete entry, `registered` in epoch seconds, 0 if the discovery has it not ──
"""

from __future__ import annotations

from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry, signed_entry_from_json
from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey

SETTLEMENT_SECONDS = 5.0


def propose(secret: SecretKey, remote: PublicKey, kind: str, public: bool) -> SignedEntry:
    """Return the dialler's entry with its signature."""
    return SignedEntry.unsigned(Entry.between(secret.public, remote, kind, public)).sign(secret)


def accept(secret: SecretKey, remote: PublicKey, kind: str, body: bytes | memoryview) -> SignedEntry:
    """Check the dialler's entry and add this side's signature; raises DecodeError that says what is wrong."""
    proposed = signed_entry_from_json(bytes(body))
    _check(proposed, secret.public, remote, kind)
    if not proposed.signed_by(remote):
        raise DecodeError("the dialler's signature on the entry is missing or wrong")
    return proposed.sign(secret)._replace(registered=0)


def complete(proposed: SignedEntry, secret: SecretKey, remote: PublicKey, body: bytes | memoryview) -> SignedEntry:
    """Check the acceptor's answer to what was proposed; raises DecodeError that says what is wrong."""
    settled = signed_entry_from_json(bytes(body))
    _check(settled, secret.public, remote, proposed.entry.kind)
    if settled.entry != proposed.entry:
        raise DecodeError("the acceptor answered with another entry")
    settled.check()
    return settled


def _check(signed: SignedEntry, own: PublicKey, remote: PublicKey, kind: str) -> None:
    signed.entry.check()
    if set(signed.entry.edges) != {own, remote}:
        raise DecodeError("the edges of the entry are not the two ends of this link")
    if signed.entry.kind != kind:
        raise DecodeError(f"a transport of type {signed.entry.kind!r} is settled over a link of type {kind!r}")
