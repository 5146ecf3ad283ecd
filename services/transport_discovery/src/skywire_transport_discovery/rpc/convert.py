"""Messages of the discovery; sizes and ranges are checked here, in what comes in."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert import fields
from skywire_common.convert.entries import signed_entry_to
from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey, parse_host_port
from skywire_common.routes import MAX_HOPS, Hop, Path, PathPair

from skywire_transport_discovery.search import MAX_AVOIDED, MAX_ROUTES, Found, Query
from skywire_transport_discovery.standing import Endpoint, Heartbeat, Transport
from skywire_transport_discovery.store.changes import Cause, Logged

MAX_STATUSES = 1_000
MAX_ENDPOINTS = 8
MAX_KIND = 32
# A DNS name, a colon, a port.
MAX_ADDRESS = 261

_CAUSES: dict[Cause, pb.StateChange.Cause.ValueType] = {
    Cause.REGISTERED: pb.StateChange.CAUSE_REGISTERED,
    Cause.STATUS: pb.StateChange.CAUSE_STATUS,
    Cause.LEASE: pb.StateChange.CAUSE_LEASE,
    Cause.NODE: pb.StateChange.CAUSE_NODE,
    Cause.PRUNED: pb.StateChange.CAUSE_PRUNED,
}


def transport_to(transport: Transport) -> pb.TransportStatus:
    """Return the message of a transport."""
    return pb.TransportStatus(
        entry=signed_entry_to(transport.signed),
        is_up=transport.is_up,
        statuses=[
            pb.EdgeStatus(submitted=state.submitted, is_up=state.is_up, at=state.at, alive=state.alive)
            for state in transport.states
        ],
    )


def transports_to(transports: Iterable[Transport]) -> list[pb.TransportStatus]:
    """Return the messages of several transports."""
    return [transport_to(transport) for transport in transports]


def history_to(logged: Iterable[Logged]) -> list[pb.StateChange]:
    """Return the messages of a transport's history."""
    return [
        pb.StateChange(at_ms=one.at_ms, is_up=one.change.is_up, cause=_CAUSES[one.change.cause], revision=one.revision)
        for one in logged
    ]


def statuses_from(request: pb.UpdateStatusesRequest) -> list[tuple[bytes, bool]]:
    """Return (transport id, is up) of each; raises DecodeError."""
    found = fields.at_most(request.statuses, MAX_STATUSES, "statuses")
    return [
        (fields.identifier(status.transport_id, f"statuses[{index}].transport_id"), status.is_up)
        for index, status in enumerate(found)
    ]


def heartbeat_from(key: PublicKey, request: pb.RegisterNodeRequest) -> Heartbeat:
    """Return a node's word about itself; raises DecodeError."""
    endpoints = fields.at_most(request.endpoints, MAX_ENDPOINTS, "endpoints")
    return Heartbeat(
        key,
        request.epoch,
        tuple(_endpoint(endpoint, f"endpoints[{index}]") for index, endpoint in enumerate(endpoints)),
        fields.within(request.max_hops, 0, MAX_HOPS, "max_hops"),
        request.stopping,
        request.previous_epoch,
    )


def _endpoint(message: pb.Endpoint, name: str) -> Endpoint:
    kind = fields.text(message.kind, MAX_KIND, f"{name}.kind")
    address = fields.text(message.address, MAX_ADDRESS, f"{name}.address")
    if not kind.replace("-", "_").isidentifier() or not address.isprintable():
        raise DecodeError(f"{name} has a kind (a word) and an address HOST:PORT")
    try:
        parse_host_port(address)
    except DecodeError as error:
        raise DecodeError(f"{name}.address: {error}") from error
    return Endpoint(kind, address)


def endpoints_to(endpoints: Iterable[Endpoint]) -> list[pb.Endpoint]:
    """Return the messages of endpoints."""
    return [pb.Endpoint(kind=endpoint.kind, address=endpoint.address) for endpoint in endpoints]


def query_from(request: pb.FindRoutesRequest) -> Query:
    """Return what to look for; raises DecodeError."""
    source = fields.public_key(request.from_key, "from_key")
    target = fields.public_key(request.to_key, "to_key")
    if source == target:
        raise DecodeError("from_key and to_key are two nodes")
    most = fields.within(request.max_hops, 0, MAX_HOPS, "max_hops") or MAX_HOPS
    avoid_transports = fields.at_most(request.avoid_transports, MAX_AVOIDED, "avoid_transports")
    avoid_nodes = fields.at_most(request.avoid_nodes, MAX_AVOIDED, "avoid_nodes")
    return Query(
        source,
        target,
        max(1, fields.within(request.min_hops, 0, most, "min_hops")),
        most,
        max(1, fields.within(request.count, 0, MAX_ROUTES, "count")),
        frozenset(fields.identifier(raw, "avoid_transports") for raw in avoid_transports),
        frozenset(fields.public_key(raw, "avoid_nodes") for raw in avoid_nodes),
    )


def pair_of(source: PublicKey, found: Found) -> PathPair:
    """Return the way there and, over the same transports, the way back."""
    hops: list[Hop] = []
    here = source
    for transport, node in zip(found.transports, found.nodes, strict=True):
        hops.append(Hop(here, node, UUID(bytes=transport)))
        here = node
    back: Path = tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(hops))
    return PathPair(tuple(hops), back)
