"""Calls to the transport discovery: the heartbeat that keeps this node's lease, its transports, and questions.

Nothing here waits for the discovery on behalf of packets, loops or locks: a call fails within its deadline and the
node goes on with what it knows (docs/failures.md, discovery-down).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar
from uuid import UUID

import structlog
from google.protobuf.message import Message
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert.entries import (
    signed_entries_from,
    signed_entries_to,
    signed_entry_from,
    signed_entry_to,
)
from skywire_common.convert.routes import path_pairs_from
from skywire_common.entries import SignedEntry
from skywire_common.errors import DecodeError, ErrorCode, Failure, Phase
from skywire_common.keys import PublicKey
from skywire_common.routes import PathPair
from skywire_common.rpc.client import RpcChannel

CALL_SECONDS = 5.0
# Finding a route is part of a dial, whose steps have 2 s.
FIND_SECONDS = 2.0
HEARTBEAT_SECONDS = 20.0
JITTER = 0.2
# After a failed heartbeat the next one comes sooner: three must fit the lease of 60 s.
AGAIN_SECONDS = 5.0
LAST_SECONDS = 1.0
MAX_BATCH = 500
_PACKAGE = "/skywire.transport_discovery.v1."

R = TypeVar("R", bound=Message)


class Record(NamedTuple):
    """What the discovery knows of a node: addresses by kind ("tcp", "control"), epoch, whether its lease is live."""

    addresses: dict[str, str]
    epoch: int
    alive: bool


class Listed(NamedTuple):
    """A registered transport and whether routes may use it."""

    entry: SignedEntry
    is_up: bool


class Reconciled(NamedTuple):
    """What came of a node's whole list: the time of registration of each, in its order, and how much was wrong."""

    registered: list[int]
    corrected: int


class Presence(NamedTuple):
    """What a node says of itself with every heartbeat."""

    addresses: dict[str, str]
    epoch: int
    max_hops: int
    # The epoch of this key's last life that the discovery took: with it a restart is no duplicate.
    previous_epoch: int = 0


class Discovery:
    """The discovery as this node uses it; every call raises Failure and none is tried again here.

    Without a channel, because the config names no discovery, it is always away.
    """

    def __init__(self, channel: RpcChannel | None) -> None:
        self._channel = channel

    async def register_node(self, presence: Presence, *, stopping: bool = False) -> float:
        """Say where this node is; return the seconds until the lease ends. Raises DUPLICATE_IDENTITY."""
        request = pb.RegisterNodeRequest(
            endpoints=[pb.Endpoint(kind=kind, address=address) for kind, address in presence.addresses.items()],
            epoch=presence.epoch,
            max_hops=presence.max_hops,
            previous_epoch=presence.previous_epoch,
            stopping=stopping,
        )
        timeout = LAST_SECONDS if stopping else CALL_SECONDS
        answer = await self._call("NodeDirectory/RegisterNode", request, pb.RegisterNodeResponse, timeout)
        return float(answer.lease_s)

    async def resolve(self, node: PublicKey) -> Record:
        """Return where a node is; raises Failure (UNKNOWN_NODE)."""
        request = pb.ResolveNodeRequest(public_key=node)
        answer = await self._call("NodeDirectory/ResolveNode", request, pb.ResolveNodeResponse, signed=False)
        addresses = {endpoint.kind: endpoint.address for endpoint in reversed(answer.endpoints)}
        return Record(addresses, answer.epoch, answer.alive)

    async def register_transports(self, entries: Sequence[SignedEntry]) -> list[SignedEntry]:
        """Register entries that both edges signed; return them with their time of registration."""
        registered: list[SignedEntry] = []
        for at in range(0, len(entries), MAX_BATCH):
            request = pb.RegisterTransportsRequest(entries=signed_entries_to(entries[at : at + MAX_BATCH]))
            path = "TransportDiscovery/RegisterTransports"
            answer = await self._call(path, request, pb.RegisterTransportsResponse)
            registered += _checked(signed_entries_from, answer.entries)
        return registered

    async def update_statuses(self, statuses: Iterable[tuple[UUID, bool]]) -> None:
        """Say which transports this node sees up or down."""
        messages = [pb.UpdateStatusesRequest.Status(transport_id=key.bytes, is_up=up) for key, up in statuses]
        for at in range(0, len(messages), MAX_BATCH):
            request = pb.UpdateStatusesRequest(statuses=messages[at : at + MAX_BATCH])
            await self._call("TransportDiscovery/UpdateStatuses", request, pb.UpdateStatusesResponse)

    async def reconcile_transports(self, own: Sequence[tuple[SignedEntry, bool]]) -> Reconciled:
        """Make the registry agree with this node's whole list, at most MAX_ENTRIES with whether each is up; what it has
        beside them is said to be down.
        """
        messages = [
            pb.ReconcileTransportsRequest.Own(entry=signed_entry_to(signed._replace(registered=0)), is_up=up)
            for signed, up in own
        ]
        request = pb.ReconcileTransportsRequest(transports=messages)
        path = "TransportDiscovery/ReconcileTransports"
        answer = await self._call(path, request, pb.ReconcileTransportsResponse)
        if len(answer.transports) != len(own):
            raise Failure(ErrorCode.INTERNAL, "the discovery answered with another number of transports")
        return Reconciled([one.entry.registered for one in answer.transports], answer.corrected)

    async def list_transports(self, edge: PublicKey) -> list[Listed]:
        """Return all registered transports of a node."""
        request = pb.ListTransportsByEdgeRequest(edge=edge)
        path = "TransportDiscovery/ListTransportsByEdge"
        answer = await self._call(path, request, pb.ListTransportsByEdgeResponse, signed=False)
        return [Listed(_checked(signed_entry_from, found.entry), found.is_up) for found in answer.transports]

    async def find_routes(
        self,
        source: PublicKey,
        target: PublicKey,
        *,
        count: int = 1,
        min_hops: int = 0,
        max_hops: int = 0,
        avoid_transports: Iterable[UUID] = (),
        avoid_nodes: Iterable[PublicKey] = (),
    ) -> list[PathPair]:
        """Return at least one and at most `count` pairs of paths, disjoint ones first; raises Failure (NO_ROUTE)."""
        request = pb.FindRoutesRequest(
            from_key=source,
            to_key=target,
            min_hops=min_hops,
            max_hops=max_hops,
            count=count,
            avoid_transports=[transport.bytes for transport in avoid_transports],
            avoid_nodes=list(avoid_nodes),
        )
        path = "RouteFinder/FindRoutes"
        try:
            answer = await self._call(path, request, pb.FindRoutesResponse, FIND_SECONDS, signed=False)
        except Failure as failure:
            raise failure.within(phase=Phase.FIND) from failure
        pairs = _checked(path_pairs_from, answer.routes)
        wrong = [pair for pair in pairs if pair.forward[0].source != source or pair.forward[-1].target != target]
        if wrong or not pairs:
            raise Failure(ErrorCode.INTERNAL, "the discovery answered with routes between other nodes, or none")
        return pairs

    async def _call(
        self, path: str, request: Message, answer: type[R], timeout: float = CALL_SECONDS, *, signed: bool = True
    ) -> R:
        if self._channel is None:
            raise Failure(ErrorCode.UNAVAILABLE, "the config names no transport_discovery")
        return await self._channel.call(_PACKAGE + path, request, answer, timeout=timeout, signed=signed)


class Heartbeat:
    """Keeps the node's lease while `run` runs; `reason` says why it cannot, empty if the last one succeeded."""

    def __init__(
        self,
        discovery: Discovery,
        presence: Callable[[], Presence],
        *,
        every: float = HEARTBEAT_SECONDS,
        rng: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        registered: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        """`registered` is called with the epoch after each success."""
        self.reason = "not registered with the discovery yet"
        self.last_success: float | None = None
        self._discovery = discovery
        self._presence = presence
        self._every = every
        self._rng = rng or random.Random()
        self._monotonic = monotonic
        self._registered = registered
        self._log = structlog.get_logger(part="discovery")

    async def beat(self) -> None:
        """Register once; a failure is remembered, and said once. Raises DUPLICATE_IDENTITY: this key runs elsewhere."""
        presence = self._presence()
        try:
            await self._discovery.register_node(presence)
        except Failure as failure:
            if failure.code is ErrorCode.DUPLICATE_IDENTITY:
                raise
            if self.last_success is not None or not self.reason.startswith("discovery"):
                self._log.warning("discovery away", reason=str(failure))
            self.reason = f"discovery: {failure.cause}"
        else:
            if self.reason:
                self._log.info("registered with the discovery")
            self.reason = ""
            self.last_success = self._monotonic()
            self._registered(presence.epoch)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self.beat()
            seconds = AGAIN_SECONDS if self.reason else self._every
            await asyncio.sleep(seconds * self._rng.uniform(1 - JITTER, 1 + JITTER))

    async def stop(self) -> None:
        """Say that the node stops: routes avoid it at once. A discovery that is away learns it by the lease."""
        try:
            await self._discovery.register_node(self._presence(), stopping=True)
        except Failure as failure:
            self._log.debug("could not say goodbye to the discovery", reason=str(failure))


A = TypeVar("A")
M = TypeVar("M")


def _checked(convert: Callable[[M], A], message: M) -> A:
    """Convert an answer; raises Failure (INTERNAL) that blames the discovery if it cannot be read."""
    try:
        return convert(message)
    except DecodeError as error:
        raise Failure(ErrorCode.INTERNAL, f"the discovery's answer cannot be read: {error}") from error
