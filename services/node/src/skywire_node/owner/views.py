"""What the node's owner sees: plain values, made by whoever knows, shown by `admin`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID

from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import PathPair


class Summary(NamedTuple):
    """The node at a glance; `state` is READY, DEGRADED or STOPPING, `reasons` say why it is not READY."""

    epoch: int
    uptime: float
    state: str
    reasons: tuple[str, ...]
    link_address: str
    control_address: str
    transports_up: int
    transports: int
    loops: int
    apps_ready: int
    apps: int
    packets_forwarded: int
    bytes_forwarded: int
    packets_dropped: dict[str, int]
    link_addresses: Mapping[str, str] = MappingProxyType({})  # by type of transport


class AppView(NamedTuple):
    """One app; `state` is STARTING, READY, DEGRADED, STOPPING or STOPPED. `since`: seconds in that state."""

    name: str
    version: str
    port: int
    auto_start: bool
    state: str
    reason: str
    pid: int
    loops: int
    restarts: int
    since: float


class TransportView(NamedTuple):
    """One transport; `state` is DIALING, SETTLING, UP, SUSPECT or DOWN. `since`: seconds that it is up, or not up."""

    transport_id: UUID
    remote: PublicKey
    kind: str
    public: bool
    state: str
    reason: str
    since: float
    registered: bool
    dialled: bool
    address: str
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    queued: int


class TrafficView(NamedTuple):
    """What a transport carried on one day, UTC, written 2026-11-22."""

    transport_id: UUID
    remote: PublicKey
    kind: str
    public: bool
    day: str
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int


class LoopView(NamedTuple):
    """One loop at this edge; `state` is DIALING, OPEN, PAUSED, CLOSING or CLOSED. round_trip: seconds, 0 unknown."""

    loop_id: bytes
    local: Addr
    remote: Addr
    app: str
    state: str
    reason: str
    initiator: bool
    bytes_sent: int
    bytes_acknowledged: int
    bytes_received: int
    bytes_resent: int
    round_trip: float
    routes: PathPair | None
    reroutes: int
    standby: str = ""  # "ready" or "unproved" if there is a second pair of routes
    standby_routes: PathPair | None = None


class HopView(NamedTuple):
    """One hop of a traced route in its own words; times in seconds. Transports are None where there is none."""

    node: PublicKey
    route_id: int
    status: str
    transport_in: UUID | None
    transport_out: UUID | None
    round_trip: float
    held: float
    queued: int
    drops: int
    packets: int
    idle: float


class TraceView(NamedTuple):
    """A route as far as its hops answered; `reason` says where and why it stops, empty if it does not."""

    hops: tuple[HopView, ...]
    arrived: bool
    reason: str
    setup_id: bytes
    forged: int


class EventView(NamedTuple):
    """One thing that happened to a loop; `at` is epoch seconds."""

    at: float
    what: str
    text: str
    setup_id: bytes


class StoryView(NamedTuple):
    """A loop's life; `left_out` events in its middle were not kept."""

    loop_id: bytes
    app: str
    local: Addr
    remote: Addr
    initiator: bool
    state: str
    events: tuple[EventView, ...]
    left_out: int
