"""What the node's owner sees: plain values, made by whoever knows, shown by `admin`."""

from __future__ import annotations

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
    """One transport; `state` is DIALING, SETTLING, UP, SUSPECT or DOWN. `since`: seconds in that state."""

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
