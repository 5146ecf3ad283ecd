"""Who makes a call: a signature over the call itself (docs/wire-format.md, Signed calls). No I/O, no clock.

The metadata entry `skywire-identity-bin` holds

     0       33        41        57             122
    +-------+---------+---------+---------------+
    | key   | time    | random  | signature     |
    +-------+---------+---------+---------------+

time is epoch milliseconds. The signature is over five fields, each prefixed with its length in 4 bytes:
audience key 33 ‖ full method ("/package.Service/Method") ‖ time 8 ‖ random 16 ‖ SHA-256 of the request as sent 32.

So a signature is good for one service, one method, one request, for WINDOW_MS around the server's clock, and, since
the server remembers the random bytes that long (`replays`), once.
"""

from __future__ import annotations

import hashlib
import struct
from enum import StrEnum
from typing import NamedTuple

from skywire_common import curve
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PUBLIC_KEY_SIZE, PublicKey

METADATA_KEY = "skywire-identity-bin"
WINDOW_MS = 60_000
RANDOM_SIZE = 16
TIME_SIZE = 8
STAMP_SIZE = PUBLIC_KEY_SIZE + TIME_SIZE + RANDOM_SIZE + curve.SIGNATURE_SIZE
_LENGTH_SIZE = 4
_KEY_LENGTH, _TIME_LENGTH, _RANDOM_LENGTH, _HASH_LENGTH = (
    size.to_bytes(_LENGTH_SIZE, "big") for size in (PUBLIC_KEY_SIZE, TIME_SIZE, RANDOM_SIZE, 32)
)
_LAYOUT = struct.Struct(f">{PUBLIC_KEY_SIZE}sQ{RANDOM_SIZE}s{curve.SIGNATURE_SIZE}s")


class Reason(StrEnum):
    """Why a call was refused before its handler saw it; the label of the counter. Append only."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed"
    SKEWED = "skewed"
    FORGED = "forged"
    REPLAYED = "replayed"
    UNTRUSTED = "untrusted"
    NOT_LOCAL = "not_local"
    LIMIT = "limit"
    TOKEN = "token"  # noqa: S105 - a reason, not a token


class Refused(Failure):
    """The call does not reach its handler."""

    def __init__(self, reason: Reason, code: ErrorCode, cause: str, fields: FailureFields | None = None) -> None:
        super().__init__(code, cause, fields)
        self.reason = reason


class Stamp(NamedTuple):
    """The caller's claim: its key, the time in epoch milliseconds, 16 random bytes, the signature, 65 bytes."""

    key: PublicKey
    time_ms: int
    random: bytes
    signature: bytes

    def encode(self) -> bytes:
        """Return the 122 bytes of the layout."""
        return _LAYOUT.pack(*self)

    @property
    def until(self) -> float:
        """When the window of this call is over, epoch seconds."""
        return (self.time_ms + WINDOW_MS) / 1000


def decode(data: bytes) -> Stamp:
    """Read a stamp, all of it; raises DecodeError."""
    if len(data) != STAMP_SIZE:
        raise DecodeError(f"an identity has {STAMP_SIZE} bytes, not {len(data)}")
    key, time_ms, random, signature = _LAYOUT.unpack(data)
    return Stamp(PublicKey(key), time_ms, random, signature)


def to_sign(audience: PublicKey, method: str, time_ms: int, random: bytes, request: bytes) -> bytes:
    """Return the bytes that the caller signs."""
    name = method.encode()
    return b"".join(
        (
            _KEY_LENGTH,
            audience,
            len(name).to_bytes(_LENGTH_SIZE, "big"),
            name,
            _TIME_LENGTH,
            time_ms.to_bytes(TIME_SIZE, "big"),
            _RANDOM_LENGTH,
            random,
            _HASH_LENGTH,
            hashlib.sha256(request).digest(),
        )
    )


def sign(
    secret: curve.SecretKey, audience: PublicKey, method: str, request: bytes, *, time_ms: int, random: bytes
) -> bytes:
    """Return the metadata value for one call; `random` is 16 bytes that are never used again."""
    signature = secret.sign(to_sign(audience, method, time_ms, random, request))
    return Stamp(secret.public, time_ms, random, signature).encode()


def check(values: list[bytes], audience: PublicKey, method: str, request: bytes, now_ms: int) -> Stamp:
    """Return the verified stamp of a call; `values` are all metadata entries under METADATA_KEY.

    Raises Refused: UNAUTHENTICATED, or CLOCK_SKEW with the server's time. Whether the call came before is for the
    replay guard to say.
    """
    if not values:
        raise Refused(
            Reason.UNSIGNED,
            ErrorCode.UNAUTHENTICATED,
            f"{method} wants a signed call (metadata {METADATA_KEY}); this one is not",
        )
    if len(values) > 1:
        raise Refused(Reason.MALFORMED, ErrorCode.UNAUTHENTICATED, "more than one identity in one call")
    try:
        stamp = decode(values[0])
    except DecodeError as error:
        raise Refused(Reason.MALFORMED, ErrorCode.UNAUTHENTICATED, f"the identity is malformed: {error}") from error
    if abs(now_ms - stamp.time_ms) > WINDOW_MS:
        raise Refused(
            Reason.SKEWED,
            ErrorCode.CLOCK_SKEW,
            f"the call's time is more than {WINDOW_MS // 1000} s away from the server's",
            FailureFields(server_time_ms=now_ms, retryable=True),
        )
    if not curve.verify(stamp.key, to_sign(audience, method, stamp.time_ms, stamp.random, request), stamp.signature):
        raise Refused(
            Reason.FORGED,
            ErrorCode.UNAUTHENTICATED,
            f"the signature does not fit: another key, another request, or not meant for {audience}",
        )
    return stamp
