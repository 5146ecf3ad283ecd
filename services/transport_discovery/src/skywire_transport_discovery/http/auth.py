"""Signed HTTP requests: SW-Public, SW-Nonce, SW-Sig over body ‖ decimal nonce (docs/wire-format.md, HTTP signatures).

The signature covers neither method nor path; only the nonce, which moves with every answer of 2xx, makes a request good
once. New clients call gRPC, where the signature covers everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from skywire_common import curve
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.http_auth import MAX_NONCE, signed_payload
from skywire_common.keys import PublicKey

PUBLIC, NONCE, SIGNATURE = "SW-Public", "SW-Nonce", "SW-Sig"
HEADERS = (PUBLIC, NONCE, SIGNATURE)
# The original's client looks for exactly this text, asks for the nonce, and tries once more.
NONCE_MISMATCH = "SW-Nonce does not match"


class Signed(NamedTuple):
    """Who signed, and with which nonce; that it is the next one is still to be checked."""

    key: PublicKey
    nonce: int


class NonceMismatch(Failure):
    """The nonce is not the key's next one."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.UNAUTHENTICATED, NONCE_MISMATCH)


def check(headers: Mapping[str, str], body: bytes) -> Signed | None:
    """Return who signed the request; None if nobody did; raises Failure UNAUTHENTICATED if it is signed wrongly."""
    public, nonce, signature = (headers.get(name) for name in HEADERS)
    if public is None and nonce is None and signature is None:
        return None
    if public is None or nonce is None or signature is None:
        raise Failure(ErrorCode.UNAUTHENTICATED, f"a signed request bears {', '.join(HEADERS)}")
    try:
        key = PublicKey.parse(public)
        raw = bytes.fromhex(signature)
    except (DecodeError, ValueError) as error:
        raise Failure(ErrorCode.UNAUTHENTICATED, f"{PUBLIC} and {SIGNATURE} are hex digits") from error
    if not nonce.isascii() or not nonce.isdigit() or len(nonce) > len(str(MAX_NONCE)) or int(nonce) > MAX_NONCE:
        raise Failure(ErrorCode.UNAUTHENTICATED, f"{NONCE} is a decimal number from 0 to {MAX_NONCE}")
    if not curve.verify(key, signed_payload(body, int(nonce)), raw):
        raise Failure(ErrorCode.UNAUTHENTICATED, f"{SIGNATURE} is not {public}'s over body and nonce")
    return Signed(key, int(nonce))
