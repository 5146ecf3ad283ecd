"""Signatures over calls: what fits is accepted, anything changed is refused with its reason."""

from __future__ import annotations

import hashlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_common import curve
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, ErrorCode
from skywire_common.rpc import identity
from skywire_common.rpc.identity import STAMP_SIZE, WINDOW_MS, Reason, Refused

CALLER = SecretKey.generate()
SERVICE = SecretKey.generate()
OTHER = SecretKey.generate()
METHOD = "/skywire.node.v1.NodeControl/AddRules"
NOW = 1_700_000_000_000 + secrets.randbelow(10**9)


def signed(request: bytes = b"request", *, time_ms: int = NOW, method: str = METHOD) -> bytes:
    return identity.sign(
        CALLER, SERVICE.public, method, request, time_ms=time_ms, random=secrets.token_bytes(identity.RANDOM_SIZE)
    )


def refused(
    values: list[bytes], request: bytes = b"request", *, method: str = METHOD, now: int = NOW, at: SecretKey = SERVICE
) -> Refused:
    with pytest.raises(Refused) as caught:
        identity.check(values, at.public, method, request, now)
    return caught.value


@given(request=st.binary(max_size=200), random=st.binary(min_size=16, max_size=16))
def test_a_call_signed_is_accepted(request: bytes, random: bytes) -> None:
    value = identity.sign(CALLER, SERVICE.public, METHOD, request, time_ms=NOW, random=random)
    stamp = identity.check([value], SERVICE.public, METHOD, request, NOW)
    assert len(value) == STAMP_SIZE
    assert (stamp.key, stamp.time_ms, stamp.random) == (CALLER.public, NOW, random)
    assert identity.decode(value) == stamp
    assert stamp.until == (NOW + WINDOW_MS) / 1000


def test_what_is_signed_is_a_length_prefixed_tuple() -> None:
    random = bytes(range(16))
    fields = [
        bytes(SERVICE.public),
        METHOD.encode(),
        NOW.to_bytes(8, "big"),
        random,
        hashlib.sha256(b"request").digest(),
    ]
    expected = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert identity.to_sign(SERVICE.public, METHOD, NOW, random, b"request") == expected


def test_no_two_calls_sign_the_same_bytes() -> None:
    one = identity.to_sign(SERVICE.public, "/a/bc", NOW, bytes(16), b"")
    two = identity.to_sign(SERVICE.public, "/a/b", NOW, bytes(16), b"c")
    assert one != two


def test_unsigned_malformed_and_doubled_identities_are_refused() -> None:
    assert refused([]).reason is Reason.UNSIGNED
    assert refused([b""]).reason is Reason.MALFORMED
    assert refused([signed()[:-1]]).reason is Reason.MALFORMED
    assert refused([signed() + b"\x00"]).reason is Reason.MALFORMED
    assert refused([b"\x05" + signed()[1:]]).reason is Reason.MALFORMED
    assert refused([signed(), signed()]).reason is Reason.MALFORMED
    assert refused([]).code is ErrorCode.UNAUTHENTICATED


def test_a_changed_request_method_or_audience_is_refused() -> None:
    value = signed()
    assert refused([value], b"requests").reason is Reason.FORGED
    assert refused([value], method=METHOD.replace("Add", "Remove")).reason is Reason.FORGED
    assert refused([value], at=OTHER).reason is Reason.FORGED


@given(at=st.integers(0, STAMP_SIZE - 1), flip=st.integers(1, 255))
def test_one_changed_byte_of_the_identity_is_refused(at: int, flip: int) -> None:
    value = bytearray(signed())
    value[at] ^= flip
    assert refused([bytes(value)]).reason in (Reason.MALFORMED, Reason.FORGED, Reason.SKEWED)


def test_another_key_under_a_signature_is_refused() -> None:
    stamp = identity.decode(signed())
    assert refused([stamp._replace(key=OTHER.public).encode()]).reason is Reason.FORGED


def test_a_signature_with_high_s_is_refused() -> None:
    stamp = identity.decode(signed())
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = order - int.from_bytes(stamp.signature[32:64], "big")
    signature = stamp.signature[:32] + twin.to_bytes(32, "big") + bytes((stamp.signature[64] ^ 1,))
    assert len(signature) == curve.SIGNATURE_SIZE
    assert refused([stamp._replace(signature=signature).encode()]).reason is Reason.FORGED


@pytest.mark.parametrize("offset", [-WINDOW_MS, -1, 0, 1, WINDOW_MS])
def test_a_clock_within_the_window_is_accepted(offset: int) -> None:
    assert identity.check([signed(time_ms=NOW + offset)], SERVICE.public, METHOD, b"request", NOW)


@pytest.mark.parametrize(
    "offset", [-600_000, -WINDOW_MS - 1, WINDOW_MS + 1, 600_000, pytest.param((1 << 63) - NOW, id="2^63")]
)
def test_a_clock_outside_the_window_hears_the_servers_time(offset: int) -> None:
    failure = refused([signed(time_ms=NOW + offset)])
    assert failure.reason is Reason.SKEWED
    assert failure.code is ErrorCode.CLOCK_SKEW
    assert failure.fields.server_time_ms == NOW
    assert failure.fields.retryable


@given(st.binary(max_size=2 * STAMP_SIZE))
def test_any_bytes_are_a_stamp_or_a_decode_error(data: bytes) -> None:
    try:
        stamp = identity.decode(data)
    except DecodeError:
        return
    assert stamp.encode() == data
