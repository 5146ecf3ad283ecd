"""Any bytes at all: the router drops, the frames and handshakes of loops and links raise what they promise."""

from __future__ import annotations

import contextlib
import random

from hypothesis import given
from hypothesis import strategies as st
from skywire_common import packet
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, LinkError
from skywire_common.loop import frames
from skywire_common.loop.endpoint import Endpoint
from skywire_common.loop.events import Dropped
from skywire_common.noise import Cipher
from skywire_node.link.handshake import LinkHandshake
from skywire_node.link.records import RecordReader
from skywire_node.routing.router import Router
from skywire_node.routing.table import RoutingTable

RANDOM = random.Random(23)
SECRET, EPHEMERAL = SecretKey(RANDOM.randbytes(32)), SecretKey(RANDOM.randbytes(32))


class Silent:
    """A link of no interest."""

    transport_id = None
    congested = False

    def route_error(self, route_id: int, reason: object) -> None:
        pass


@given(st.binary(max_size=300))
def test_the_router_takes_any_bytes(data: bytes) -> None:
    router = Router(RoutingTable(lambda transport: True), lambda *_: None)
    count = router.receive(Silent(), memoryview(bytearray(data)), 0.0)  # type: ignore[arg-type]
    assert sum(router.dropped.values()) >= count
    assert not data or router.dropped


@given(st.binary(max_size=300))
def test_a_packet_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert packet.decode(data).encode() == data


@given(st.binary(max_size=200))
def test_frames_are_read_or_refused_and_written_as_they_were(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert b"".join(frames.encode(frame) for frame in frames.decode(data)) == data


@given(st.binary(max_size=200))
def test_an_endpoint_drops_what_is_not_sealed_for_it(data: bytes) -> None:
    endpoint = Endpoint(Cipher(bytes(32)), Cipher(bytes(32)), 0.0)
    (event,) = endpoint.receive(data, 0.0)
    assert isinstance(event, Dropped)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_a_link_before_its_handshake_takes_any_bytes_or_ends(data: bytes, step: int) -> None:
    handshake = LinkHandshake(SECRET, EPHEMERAL, None)
    with contextlib.suppress(LinkError):
        for at in range(0, len(data), step):
            handshake.feed(data[at : at + step])
    assert not handshake.finished


@given(st.binary(min_size=1, max_size=400))
def test_a_link_after_its_handshake_takes_any_bytes_or_ends(data: bytes) -> None:
    reader = RecordReader(Cipher(bytes(32)))
    reader.space()[: len(data)] = data
    with contextlib.suppress(LinkError):
        assert list(reader.advance(len(data))) == []
