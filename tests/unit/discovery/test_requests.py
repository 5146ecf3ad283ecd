"""What one request may hold: one more is refused, before anything is asked of the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError
from skywire_transport_discovery.rpc import convert
from skywire_transport_discovery.search import MAX_AVOIDED, MAX_ROUTES

KEY, OTHER = SecretKey.generate().public, SecretKey.generate().public
ID = bytes(range(16))


def statuses(count: int) -> Any:
    status = pb.UpdateStatusesRequest.Status(transport_id=ID, is_up=True)
    return convert.statuses_from(pb.UpdateStatusesRequest(statuses=[status] * count))


def endpoints(count: int) -> Any:
    return beat(*([pb.Endpoint(kind="tcp", address="h:1")] * count))


def kind(size: int) -> Any:
    return beat(pb.Endpoint(kind="k" * size, address="h:1"))


def address(size: int) -> Any:
    return beat(pb.Endpoint(kind="tcp", address="h" * (size - 2) + ":1"))


def beat(*endpoints: pb.Endpoint) -> Any:
    return convert.heartbeat_from(KEY, pb.RegisterNodeRequest(endpoints=endpoints, epoch=1))


def routes(count: int) -> Any:
    return query(count=count)


def avoided_transports(count: int) -> Any:
    return query(avoid_transports=[ID] * count)


def avoided_nodes(count: int) -> Any:
    return query(avoid_nodes=[KEY] * count)


def query(**more: Any) -> Any:
    return convert.query_from(pb.FindRoutesRequest(from_key=KEY, to_key=OTHER, **more))


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (statuses, convert.MAX_STATUSES),
        (endpoints, convert.MAX_ENDPOINTS),
        (kind, convert.MAX_KIND),
        (address, convert.MAX_ADDRESS),
        (routes, MAX_ROUTES),
        (avoided_transports, MAX_AVOIDED),
        (avoided_nodes, MAX_AVOIDED),
    ],
)
def test_a_request_is_bounded(make: Callable[[int], Any], most: int) -> None:
    assert make(most)
    with pytest.raises(DecodeError, match=r"at most|from 0 to|not"):
        make(most + 1)


@pytest.mark.parametrize(
    "address", ["h:0", "h:65536", "h:", ":1", "h", "h:1 ", "h:\u0661", "h\x1b:1", "h:" + "9" * 200]
)
def test_an_endpoint_is_where_somebody_can_listen(address: str) -> None:
    with pytest.raises(DecodeError, match="address"):
        beat(pb.Endpoint(kind="tcp", address=address))
