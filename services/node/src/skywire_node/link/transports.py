"""The node's transports: dialled, accepted, settled, kept up, taken down (docs/wire-format.md, Link).

    DIALING ──connected, handshake──▶ SETTLING ──entry complete──▶ UP ──silence──▶ SUSPECT ──▶ DOWN
       ▲                                                            └──connection lost──────────▶ │
       └────────────────── full jitter from 0.5 s to 60 s, while the transport is kept ───────────┘

There is at most one transport per pair of nodes, type and visibility. When a second connection settles for one that is
up, the newer of two by the same dialler stays, and of two by different diallers that of the smaller key: both ends
decide alike.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

import structlog
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LinkError, SkywireError
from skywire_common.keys import PublicKey

from skywire_node.link import over_tcp, settlement
from skywire_node.link.connection import Link, LinkUser
from skywire_node.link.descriptors import Descriptors
from skywire_node.link.handshake import HANDSHAKE_SECONDS, LinkHandshake
from skywire_node.link.liveness import PING_AFTER
from skywire_node.link.records import Kind
from skywire_node.link.settlement import SETTLEMENT_SECONDS
from skywire_node.link.transport import NOTHING, Totals, Transport, TransportState
from skywire_node.link.types import TCP, TransportType

MAX_PENDING = 64  # accepted connections that have not settled yet
MAX_TRANSPORTS = 10_000
FIRST_RETRY = 0.5  # seconds
LAST_RETRY = 60.0
MAX_REMOVED = 10_000  # ids of transports that stay removed
MAX_MEETING = 16  # neighbours of an earlier life that are dialled at once
STEADY_AFTER = 30.0  # seconds up after which a loss is retried soon again
REGISTER_SECONDS = 1.5  # how long a settlement waits for the discovery
CLOSE_SECONDS = 2.0

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]

log = structlog.get_logger(part="transports")


class Registry(Protocol):
    """The discovery as transports see it; every call raises Failure when it is away."""

    async def register(self, entries: list[SignedEntry], *, timeout: float = 5.0) -> list[SignedEntry]:
        """Register complete entries; return them with their time of registration."""

    async def find_link_address(self, node: PublicKey, kind: str) -> str:
        """Return host:port where the node accepts links of this type."""


class Transports:
    """All transports of the node. `user` gets the packets; `changed` hears of every UP and DOWN.

    `types` are the ways to carry links, by name; without them there is `tcp` alone.
    """

    def __init__(
        self,
        secret: SecretKey,
        user: LinkUser,
        registry: Registry,
        changed: Callable[[Transport], None],
        spawn: Spawn,
        *,
        types: Mapping[str, TransportType] | None = None,
    ) -> None:
        self.types = {TCP: over_tcp.OverTcp()} if types is None else types
        self.descriptors = Descriptors()
        self._secret = secret
        self._user = user
        self._registry = registry
        self._changed = changed
        self._spawn = spawn
        self._pending: set[Link] = set()
        self._stopping = False
        self.all: dict[UUID, Transport] = {}
        self._removed: dict[UUID, None] = {}
        # Gone, with what they carried since somebody last asked.
        self._gone: list[Transport] = []
        self.refused = 0

    # -- accepting

    async def listen(self, address: str, kind: str = TCP) -> str:
        """Accept links of a type on host:port (port 0: any); return where. Raises OSError or Failure."""
        return await self.types[kind].listen(address, lambda: self._accepted(kind))

    def _accepted(self, kind: str) -> Link:
        link = Link(LinkHandshake(self._secret, SecretKey.generate(), None), self._user)
        if len(self._pending) >= MAX_PENDING or self._stopping:
            self.refused += 1
            link.abort("too many connections that have not settled")
            return link
        self._pending.add(link)
        self._spawn(self._settle_accepted(link, kind), "settle")
        return link

    async def _settle_accepted(self, link: Link, kind: str) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await link.made
                if not self.descriptors.admits(link.descriptor, time.monotonic()):
                    self.refused += 1
                    link.abort("out of file descriptors")
                remote = await link.opened
            async with asyncio.timeout(SETTLEMENT_SECONDS):
                record, body = await self._next(link)
                if record != Kind.SETTLE:
                    raise LinkError("the dialler did not begin with a settlement")
                signed = settlement.accept(self._secret, remote, kind, body)
                if signed.entry.transport_id in self._removed:
                    raise LinkError("the owner of this node has removed this transport")
                if not self._admits(signed.entry, remote, dialler=remote):
                    raise LinkError("this transport has a connection that stays")
                signed = await self._try_register(signed)
            link.record(Kind.SETTLED, signed.to_json())
            self._up(link, signed, remote, dialled=False)
        except TimeoutError:
            link.close("it did not settle in time", tell="you did not settle in time")
        except (LinkError, DecodeError) as error:
            link.close(str(error), tell=str(error))
        finally:
            self._pending.discard(link)

    async def _next(self, link: Link) -> tuple[int, bytes]:
        """Wait for the next settlement record, or raise LinkError when the link is lost."""
        record = asyncio.ensure_future(link.settlement.get())
        either: set[asyncio.Future[Any]] = {record, link.lost}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not record.done():
                raise LinkError(link.lost.result())
            return record.result()
        finally:
            record.cancel()  # also when the time is over; of one that is done it changes nothing

    async def _try_register(self, signed: SignedEntry) -> SignedEntry:
        if not signed.entry.public:
            return signed
        try:
            return (await self._registry.register([signed], timeout=REGISTER_SECONDS))[0]
        except SkywireError as error:
            log.warning("transport not registered yet", transport=str(signed.entry.transport_id), reason=str(error))
            return signed

    # -- dialling

    async def add(self, remote: PublicKey, *, public: bool = True, address: str = "", kind: str = TCP) -> Transport:
        """Dial a node and keep the transport from now on; raises Failure if this first try does not succeed."""
        transport = self.keep(remote, public=public, address=address, kind=kind, dial=False)
        if transport.link is None:
            try:
                await self._dial(transport)
            except LinkError as error:
                self._retry_later(transport, FIRST_RETRY)
                raise Failure(
                    ErrorCode.UNAVAILABLE,
                    f"no link to {remote}: {error}; it is tried again",
                    FailureFields(hop_key=remote, transport_id=transport.entry.transport_id.bytes, retryable=True),
                ) from error
        return transport

    def keep(
        self, remote: PublicKey, *, public: bool = True, address: str = "", kind: str = TCP, dial: bool = True
    ) -> Transport:
        """Have the transport dialled in the background, now and whenever it is lost."""
        if remote == self._secret.public:
            raise Failure(ErrorCode.INVALID_ARGUMENT, "a node has no transport to itself")
        if kind not in self.types:
            known = ", ".join(sorted(self.types))
            raise Failure(ErrorCode.INVALID_ARGUMENT, f"this node makes transports of type {known}, not {kind!r}")
        entry = Entry.between(self._secret.public, remote, kind, public)
        transport = self.all.get(entry.transport_id)
        if transport is None:
            transport = self._new(entry, remote)
        self._removed.pop(entry.transport_id, None)
        transport.address = address or transport.address
        transport.kept = True
        if dial and transport.link is None and transport.redial is None:
            self._retry_later(transport, 0.0)
        return transport

    async def meet(self, entries: Iterable[Entry]) -> None:
        """Dial once, a few at a time, the other edges of transports that are neither up nor kept."""
        few = asyncio.Semaphore(MAX_MEETING)

        async def meet(entry: Entry) -> None:
            remote = entry.edges[self._secret.public == entry.edges[0]]
            async with few:
                known = entry.transport_id in self.all or entry.transport_id in self._removed
                if known or entry.kind not in self.types or len(self.all) >= MAX_TRANSPORTS:
                    return
                transport = self._new(entry, remote)
                try:
                    await self._dial(transport)
                except LinkError as error:
                    log.info("neighbour not met", remote=remote.short, reason=str(error))
                    if transport.link is None and not transport.kept and self.all.get(entry.transport_id) is transport:
                        self._forget(transport)

        await asyncio.gather(*map(meet, entries))

    def _new(self, entry: Entry, remote: PublicKey) -> Transport:
        if len(self.all) >= MAX_TRANSPORTS:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_TRANSPORTS} transports", FailureFields(limit="transports"))
        transport = Transport(entry, remote, since=time.monotonic())
        self.all[entry.transport_id] = transport
        return transport

    async def _dial(self, transport: Transport) -> None:
        """Connect, shake hands, settle; raises LinkError."""
        self._dialling(transport, "DIALING")
        remote, entry = transport.remote, transport.entry
        try:
            address = transport.address or await self._registry.find_link_address(remote, entry.kind)
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                link = Link(LinkHandshake(self._secret, SecretKey.generate(), remote), self._user)
                link.dialled = True
                await self.types[entry.kind].connect(address, link)
                await self._opened(link)
        except (OSError, TimeoutError, Failure, DecodeError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or str(error) or "no answer in time"
            self._dialling(transport, "DOWN", why)
            raise LinkError(why) from error
        except LinkError as error:
            self._dialling(transport, "DOWN", str(error))
            raise
        self._dialling(transport, "SETTLING")
        try:
            proposed = settlement.propose(self._secret, remote, entry.kind, entry.public)
            link.record(Kind.SETTLE, proposed.to_json())
            async with asyncio.timeout(SETTLEMENT_SECONDS):
                kind, body = await self._next(link)
            if kind != Kind.SETTLED:
                raise LinkError("the acceptor did not answer the settlement")
            self._up(link, settlement.complete(proposed, self._secret, remote, body), remote, dialled=True)
        except (TimeoutError, DecodeError, LinkError) as error:
            reason = str(error) or "no settlement in time"
            link.close(reason, tell=reason)
            if transport.link is None:
                self._dialling(transport, "DOWN", reason)
                raise LinkError(reason) from error

    def _dialling(self, transport: Transport, state: TransportState, reason: str = "") -> None:
        """Note how far a dial is, unless the other end's dial was quicker: then the transport is up."""
        if transport.link is None:
            self._state(transport, state, reason)

    @staticmethod
    async def _opened(link: Link) -> None:
        try:
            await link.opened
        except BaseException:
            link.abort("gave up")
            raise

    def _retry_later(self, transport: Transport, delay: float) -> None:
        if transport.redial is None and transport.kept and not self._stopping:
            transport.redial = self._spawn(self._redial(transport, delay), "redial")

    async def _redial(self, transport: Transport, delay: float) -> None:
        """Dial until the transport is up or no longer kept: full jitter, growing."""
        most = max(delay, FIRST_RETRY)
        try:
            await asyncio.sleep(random.uniform(0, delay))
            while transport.kept and transport.link is None and not self._stopping:
                try:
                    await self._dial(transport)
                except LinkError as error:
                    log.info("dial failed", remote=transport.remote.short, reason=str(error))
                    await asyncio.sleep(random.uniform(0, most))
                    most = min(most * 2, LAST_RETRY)
        finally:
            transport.redial = None

    # -- up and down

    def _admits(self, entry: Entry, remote: PublicKey, *, dialler: PublicKey) -> bool:
        """Say whether a new connection by `dialler` may carry the transport, beside what carries it now."""
        transport = self.all.get(entry.transport_id)
        if transport is None or transport.link is None:
            return True
        current = self._secret.public if transport.dialled else remote
        return dialler == current or dialler == entry.edges[0]

    def _up(self, link: Link, signed: SignedEntry, remote: PublicKey, *, dialled: bool) -> None:
        entry = signed.entry
        if link.lost.done():
            raise LinkError(link.lost.result())
        if self._stopping:
            raise LinkError("the node stops")
        if not self._admits(entry, remote, dialler=self._secret.public if dialled else remote):
            raise LinkError("this transport has a connection that stays")
        transport = self.all.get(entry.transport_id)
        if transport is None:
            try:
                transport = self._new(entry, remote)
            except Failure as failure:
                raise LinkError(str(failure)) from failure
        replaced = transport.link
        if replaced is not None:
            self._count(transport, replaced)
            replaced.close("another connection carries this transport", tell="another connection stays")
        transport.link, transport.dialled = link, dialled
        if signed.registered or transport.signed is None:
            transport.signed = signed
        link.transport_id = entry.transport_id
        link.active = True
        self._state(transport, "UP")
        log.info("transport up", transport=str(entry.transport_id), remote=remote.short, dialled=dialled)
        self._changed(transport)

    def lost(self, link: Link, reason: str) -> None:
        """Note that a link is over; to be called by the link's user."""
        transport = self.all.get(link.transport_id)
        if transport is None or transport.link is not link:
            return
        self._count(transport, link)
        transport.link = None
        steady = time.monotonic() - transport.since > STEADY_AFTER
        self._state(transport, "DOWN", reason)
        log.info("transport down", transport=str(link.transport_id), remote=transport.remote.short, reason=reason)
        self._changed(transport)
        if transport.kept:
            self._retry_later(transport, FIRST_RETRY if steady else 2 * FIRST_RETRY)
        elif not transport.registered:
            self._forget(transport)

    @staticmethod
    def _count(transport: Transport, link: Link) -> None:
        transport.bytes_sent += link.bytes_sent
        transport.bytes_received += link.bytes_received
        transport.packets_sent += link.packets_sent
        transport.packets_received += link.packets_received

    @staticmethod
    def _state(transport: Transport, state: TransportState, reason: str = "") -> None:
        if (transport.state == "UP") != (state == "UP"):
            transport.since = time.monotonic()
        # Why it is down is told until it is up, also while it is dialled once more.
        transport.reason = reason or (transport.reason if state in ("DIALING", "SETTLING") else "")
        transport.state = state

    def is_removed(self, remote: PublicKey, kind: str, public: bool) -> bool:
        """Say whether a transport was removed and not added again."""
        return Entry.between(self._secret.public, remote, kind, public).transport_id in self._removed

    def note_removed(self, transport_id: UUID) -> None:
        """Have a transport stay away until it is added again, whoever dials; the oldest such are forgotten."""
        self._removed[transport_id] = None
        if len(self._removed) > MAX_REMOVED:
            del self._removed[next(iter(self._removed))]

    def remove(self, transport_id: UUID) -> Transport:
        """Close a transport for good, whoever dials it; raises Failure if there is none."""
        transport = self.all.get(transport_id)
        if transport is None:
            raise Failure(ErrorCode.UNKNOWN_TRANSPORT, f"this node has no transport {transport_id}")
        self._forget(transport)
        self.note_removed(transport_id)
        transport.kept = False
        if transport.redial is not None:
            transport.redial.cancel()
        link, transport.link = transport.link, None
        if link is not None:
            self._count(transport, link)
            link.close("removed", tell="the other end removed this transport")
        self._state(transport, "DOWN", "removed")
        self._changed(transport)
        return transport

    def _forget(self, transport: Transport) -> None:
        del self.all[transport.entry.transport_id]
        if len(self._gone) < MAX_TRANSPORTS:
            self._gone.append(transport)

    def take_traffic(self) -> list[tuple[Transport, Totals]]:
        """Return what transports carried since the last call, those that are gone since then included."""
        gone, self._gone = self._gone, []
        taken = [(transport, transport.take()) for transport in (*gone, *self.all.values())]
        return [(transport, totals) for transport, totals in taken if totals != NOTHING]

    def direct(self, remote: PublicKey, public: bool) -> list[UUID]:
        """Return the transports to a node that are up, public or private ones."""
        return [
            key
            for key, transport in self.all.items()
            if transport.remote == remote and transport.link is not None and transport.entry.public is public
        ]

    def links(self) -> list[Link]:
        """Return the links that carry transports now."""
        return [transport.link for transport in self.all.values() if transport.link is not None]

    def tick(self, now: float) -> None:
        """Once a second: pings, and links that have been silent for too long."""
        for transport in list(self.all.values()):
            link = transport.link
            if link is not None:
                link.tick(now)
                silent = now - link.liveness.heard_at >= PING_AFTER + 2
                if silent and transport.state == "UP":
                    self._state(transport, "SUSPECT", "no answer to pings")
                elif not silent and transport.state == "SUSPECT":
                    self._state(transport, "UP")

    async def stop(self) -> None:
        """Stop accepting and dialling, close every link, forced after CLOSE_SECONDS."""
        self._stopping = True
        links = self.links()
        for transport in self.all.values():
            transport.kept = False
            if transport.redial is not None:
                transport.redial.cancel()
        for link in [*links, *self._pending]:
            link.close("the node stops", tell="the node stops")
        if links:
            await asyncio.wait([link.lost for link in links], timeout=CLOSE_SECONDS)
        for link in links:
            if not link.lost.done():
                link.abort("not closed in time")
        await asyncio.gather(*(one.close() for one in self.types.values()))
