"""Single fields: what fits comes back, what does not is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_common.convert import fields
from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey


@given(st.binary(max_size=70))
def test_any_bytes_are_a_key_or_an_error(raw: bytes) -> None:
    try:
        key = fields.public_key(raw, "edge")
    except DecodeError as error:
        assert str(error).startswith("edge: ")
        return
    assert key == raw
    assert isinstance(key, PublicKey)


@given(st.binary(max_size=20))
def test_an_identifier_has_16_bytes(raw: bytes) -> None:
    if len(raw) == 16:
        assert fields.identifier(raw, "setup_id") == raw
        assert fields.transport_id(raw, "setup_id").bytes == raw
        return
    with pytest.raises(DecodeError, match="setup_id"):
        fields.identifier(raw, "setup_id")


@pytest.mark.parametrize("number", [0, 1 << 32, -1])
def test_a_route_id_is_never_0_and_has_32_bits(number: int) -> None:
    with pytest.raises(DecodeError, match="route_id"):
        fields.route_id(number, "route_id")


def test_counts_are_bounded() -> None:
    assert fields.at_most([1, 2], 2, "rules") == [1, 2]
    with pytest.raises(DecodeError, match="rules: at most 2, not 3"):
        fields.at_most([1, 2, 3], 2, "rules")
    with pytest.raises(DecodeError, match="reason"):
        fields.text("xxx", 2, "reason")
