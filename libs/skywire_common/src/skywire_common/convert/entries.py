"""skywire.common.v1 TransportEntry and SignedEntry; `entries`. Signatures are not verified here, nor is the id."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skywire.common.v1 import common_pb2

from skywire_common.convert import fields
from skywire_common.curve import SIGNATURE_SIZE
from skywire_common.entries import MAX_TYPE_SIZE, Entry, SignedEntry
from skywire_common.errors import DecodeError

MAX_ENTRIES = 1_000
_EDGES = 2


def entry_to(entry: Entry) -> common_pb2.TransportEntry:
    """Return the message of an entry."""
    return common_pb2.TransportEntry(
        transport_id=entry.transport_id.bytes, edges=list(entry.edges), type=entry.kind, public=entry.public
    )


def entry_from(message: common_pb2.TransportEntry, name: str = "entry") -> Entry:
    """Return an entry of the right sizes (`Entry.check` does the rest); raises DecodeError."""
    if len(message.edges) != _EDGES:
        raise DecodeError(f"{name}.edges are two keys, not {len(message.edges)}")
    smaller, larger = (fields.public_key(edge, f"{name}.edges") for edge in message.edges)
    return Entry(
        fields.transport_id(message.transport_id, f"{name}.transport_id"),
        (smaller, larger),
        fields.text(message.type, MAX_TYPE_SIZE, f"{name}.type"),
        message.public,
    )


def signed_entry_to(signed: SignedEntry) -> common_pb2.SignedEntry:
    """Return the message of an entry with its signatures."""
    return common_pb2.SignedEntry(
        entry=entry_to(signed.entry), signatures=list(signed.signatures), registered=signed.registered
    )


def signed_entry_from(message: common_pb2.SignedEntry, name: str = "entry") -> SignedEntry:
    """Return an entry with two signatures, each of 65 bytes or missing; raises DecodeError."""
    if len(message.signatures) not in (0, _EDGES):
        raise DecodeError(f"{name}.signatures are two, one may be empty, not {len(message.signatures)}")
    for signature in message.signatures:
        if len(signature) not in (0, SIGNATURE_SIZE):
            raise DecodeError(f"{name}.signatures have {SIGNATURE_SIZE} bytes, not {len(signature)}")
    first, second = message.signatures or (b"", b"")
    return SignedEntry(
        entry_from(message.entry, f"{name}.entry"),
        (first, second),
        fields.within(message.registered, 0, fields.MAX_TIME, f"{name}.registered"),
    )


def signed_entries_to(entries: Iterable[SignedEntry]) -> list[common_pb2.SignedEntry]:
    """Return the messages of several entries."""
    return [signed_entry_to(entry) for entry in entries]


def signed_entries_from(messages: Collection[common_pb2.SignedEntry], name: str = "entries") -> list[SignedEntry]:
    """Return at most MAX_ENTRIES entries; raises DecodeError."""
    found = fields.at_most(messages, MAX_ENTRIES, name)
    return [signed_entry_from(message, f"{name}[{index}]") for index, message in enumerate(found)]
