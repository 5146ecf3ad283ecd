"""A data packet's two bounds."""

from __future__ import annotations

import pytest
from skywire_common.errors import LocalError
from skywire_common.packet import MAX_PAYLOAD, MAX_ROUTE_ID, Packet, decode


def test_the_payload_of_a_packet_is_bounded() -> None:
    largest = Packet(1, bytes(MAX_PAYLOAD))
    assert decode(largest.encode()) == largest
    with pytest.raises(LocalError, match="at most 65535 bytes"):
        Packet(1, bytes(MAX_PAYLOAD + 1)).encode()


def test_a_route_id_is_bounded() -> None:
    last = Packet(MAX_ROUTE_ID, b"")
    assert decode(last.encode()) == last
    for number in (-1, MAX_ROUTE_ID + 1):
        with pytest.raises(LocalError, match="32 bits"):
            Packet(number, b"").encode()
