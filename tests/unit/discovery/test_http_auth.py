"""Signatures of the HTTP API: which nonces there are."""

from __future__ import annotations

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.http_auth import MAX_NONCE, signed_payload
from skywire_transport_discovery.http import auth

ME = SecretKey.generate()


def signed(nonce: str) -> dict[str, str]:
    """Sign with any nonce, as no client of ours would."""
    return {"SW-Public": str(ME.public), "SW-Nonce": nonce, "SW-Sig": ME.sign(b"body" + nonce.encode()).hex()}


def test_a_nonce_is_bounded() -> None:
    assert signed_payload(b"body", MAX_NONCE) == b"body%d" % MAX_NONCE
    assert auth.check(signed(str(MAX_NONCE)), b"body") == (ME.public, MAX_NONCE)
    for number in (-1, MAX_NONCE + 1):
        with pytest.raises(LocalError, match="a nonce is a number from 0 to"):
            signed_payload(b"body", number)
    for text in (str(MAX_NONCE + 1), "9" * 5_000, "-1", "²", ""):
        with pytest.raises(Failure, match="decimal number from 0 to") as refused:
            auth.check(signed(text), b"body")
        assert refused.value.code is ErrorCode.UNAUTHENTICATED
