"""What a client of the discovery's HTTP API signs (docs/wire-format.md, HTTP signatures)."""

from __future__ import annotations

from skywire_common.errors import LocalError

MAX_NONCE = (1 << 63) - 1


def signed_payload(body: bytes, nonce: int) -> bytes:
    """Return body ‖ nonce in decimal, the bytes under `SW-Sig`; the nonce is 0 to MAX_NONCE."""
    if not 0 <= nonce <= MAX_NONCE:
        raise LocalError(f"a nonce is a number from 0 to {MAX_NONCE}, not {nonce}")
    return body + str(nonce).encode()
