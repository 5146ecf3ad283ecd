"""Checks of single fields: sizes, ranges, counts. Each names the field in its error."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar
from uuid import UUID

from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey
from skywire_common.packet import MAX_ROUTE_ID

ID_SIZE = 16
# Of an int64: epoch seconds, or epoch milliseconds where the field's name says so.
MAX_TIME = (1 << 63) - 1
# Either message of Noise KK without a payload: an ephemeral key, 33 bytes, and a tag, 16 (docs/wire-format.md, Noise).
NOISE_MESSAGE_SIZE = 49

T = TypeVar("T", bound=Collection[object])


def public_key(raw: bytes, name: str) -> PublicKey:
    """Return a field of 33 bytes as a key; raises DecodeError."""
    try:
        return PublicKey(raw)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error


def identifier(raw: bytes, name: str) -> bytes:
    """Return a field of 16 bytes, for example a set-up id or a salt; raises DecodeError."""
    if len(raw) != ID_SIZE:
        raise DecodeError(f"{name} has {ID_SIZE} bytes, not {len(raw)}")
    return raw


def noise_message(raw: bytes, name: str, *, reroute: bool) -> bytes:
    """Return a message of a loop's handshake, 49 bytes for a new loop and none on a reroute; raises DecodeError."""
    if len(raw) != (0 if reroute else NOISE_MESSAGE_SIZE):
        raise DecodeError(f"{name} has {NOISE_MESSAGE_SIZE} bytes for a new loop and none on a reroute, not {len(raw)}")
    return raw


def transport_id(raw: bytes, name: str) -> UUID:
    """Return a field of 16 bytes as a transport id; raises DecodeError."""
    return UUID(bytes=identifier(raw, name))


def route_id(number: int, name: str) -> int:
    """Return a route id, 1 to 2^32 - 1; raises DecodeError."""
    return within(number, 1, MAX_ROUTE_ID, name)


def within(number: int, low: int, high: int, name: str) -> int:
    """Return the number if low ≤ number ≤ high; raises DecodeError."""
    if not low <= number <= high:
        raise DecodeError(f"{name} is {low} to {high}, not {number}")
    return number


def at_most(items: T, bound: int, name: str) -> T:
    """Return the items if there are no more than `bound`; raises DecodeError."""
    if len(items) > bound:
        raise DecodeError(f"{name}: at most {bound}, not {len(items)}")
    return items


def text(value: str, bound: int, name: str) -> str:
    """Return the text if it has no more than `bound` characters; raises DecodeError."""
    return at_most(value, bound, name)
