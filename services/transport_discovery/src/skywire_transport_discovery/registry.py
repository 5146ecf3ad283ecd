"""What the services ask of the store, many callers in one transaction (grouping), and hints to the feed.

A signed call is good once at all replicas together. This one's memory says at once which calls came to it before; the
database decides between replicas, in the same transaction as what the call does: `first_use` leaves the call with the
task that serves it, and the write that follows takes it along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure, FailureFields, LocalError
from skywire_common.keys import PublicKey
from skywire_common.rpc.replays import MemoryReplays
from sqlalchemy import Connection

from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.grouping import Grouper
from skywire_transport_discovery.standing import Heartbeat, Node, Transport
from skywire_transport_discovery.store import calls, nodes, reconcile, transports
from skywire_transport_discovery.store.calls import Call, NotAllFirst
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.reconcile import Own, Reconciled
from skywire_transport_discovery.store.transports import MAX_TRANSPORTS_PER_NODE, Said

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

# The signed call that the task serves, until a write took it along.
_SERVED: ContextVar[Call | None] = ContextVar("served", default=None)


class Registry:
    """The registry of one replica. Every method raises Failure UNAVAILABLE if the database is away."""

    def __init__(self, database: Database, feed: Feed, per_node: int = MAX_TRANSPORTS_PER_NODE) -> None:
        self.database = database
        self.feed = feed
        # Most transports of one node.
        self.per_node = per_node
        self._replays = MemoryReplays()
        self._registrations = Grouper("registrations", self._register)
        self._words = Grouper("statuses", self._say)
        self._lists = Grouper("lists", self._agree)
        self._beats = Grouper("heartbeats", self._beat)
        self._by_id = Grouper("lookups", self._look_up)
        self._by_edge = Grouper("edges", self._list)
        self._by_key = Grouper("nodes", self._resolve)
        self.groupers: dict[str, Grouper[Any, Any]] = {
            "registrations": self._registrations,
            "statuses": self._words,
            "lists": self._lists,
            "heartbeats": self._beats,
            "lookups": self._by_id,
            "edges": self._by_edge,
            "nodes": self._by_key,
        }

    async def first_use(self, key: PublicKey, nonce: bytes, until: float) -> bool:
        """Say whether a signed call is the first with these random bytes here (rpc.replays.ReplayGuard).

        Whether it is the first at any replica, the write that it asks for finds out.
        """
        if not await self._replays.first_use(key, nonce, until):
            return False
        _SERVED.set(Call(key, nonce, int(until * 1000)))
        return True

    async def register(self, entries: Sequence[SignedEntry]) -> Sequence[SignedEntry]:
        """Register checked entries, all or none; return them with the time of first registration."""
        return await self._registrations.submit((_served(), entries), len(entries))

    async def say(self, edge: PublicKey, statuses: Sequence[tuple[bytes, bool]]) -> Sequence[Transport]:
        """Note what an edge says of its transports, all or nothing; return them as they are then."""
        return await self._words.submit((_served(), Said(edge, statuses)), len(statuses))

    async def heartbeat(self, beat: Heartbeat) -> None:
        """Renew a node's lease; raises Failure DUPLICATE_IDENTITY."""
        await self._beats.submit((_served(), beat))

    async def transport(self, transport_id: bytes) -> Transport:
        """Return a transport; raises Failure UNKNOWN_TRANSPORT."""
        found = await self._by_id.submit(transport_id)
        if found is None:
            raise Failure(
                ErrorCode.UNKNOWN_TRANSPORT,
                f"transport {transport_id.hex()} is not registered",
                FailureFields(transport_id=transport_id),
            )
        return found

    async def transports_of(self, key: PublicKey) -> list[Transport]:
        """Return a node's transports, up or down, oldest first."""
        return await self._by_edge.submit(key)

    async def node(self, key: PublicKey) -> Node:
        """Return a node's record; raises Failure UNKNOWN_NODE."""
        found = await self._by_key.submit(key)
        if found is None:
            raise unknown_node(key)
        return found

    async def is_known(self, key: PublicKey) -> bool:
        """Say whether anybody ever registered this key: a node, or a transport of it."""
        return await self._by_key.submit(key) is not None or await self.database.read(transports.is_edge, key)

    async def agree(self, own: Own) -> Reconciled | None:
        """Answer a node whose whole list is what the registry has; None if something differs: then `reconcile`."""
        return await self._lists.submit((_served(), own), max(1, len(own.listed)))

    async def reconcile(self, own: Own) -> Reconciled:
        """Make the registry agree with a node's whole list of checked entries, for a call that `agree` took along."""
        done = await self.write(reconcile.reconcile, own, self.per_node)
        if isinstance(done, Failure):
            raise done
        return done

    async def write(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run one write that may change the graph."""
        try:
            return await self.database.write(work, *args, **kwargs)
        finally:
            self.feed.hint()

    async def close(self) -> None:
        """Wait until everything that was asked for is answered."""
        for grouper in self.groupers.values():
            await grouper.close()

    async def _once(
        self,
        asked: Sequence[tuple[Call, T]],
        work: Callable[Concatenate[Connection, Sequence[T], P], Sequence[R | Failure]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> list[R | Failure]:
        try:
            # Nearly always all of them are first, and then it is enough to count.
            return await self.database.write(calls.once, asked, work, *args, **kwargs)
        except NotAllFirst:
            return await self.database.write(calls.once_each, asked, work, *args, **kwargs)

    async def _register(self, asked: list[tuple[Call, Sequence[SignedEntry]]]) -> list[transports.Registered]:
        try:
            return await self._once(asked, transports.register, self.per_node)
        finally:
            self.feed.hint()

    async def _say(self, asked: list[tuple[Call, Said]]) -> list[transports.Spoken]:
        try:
            return await self._once(asked, transports.say)
        finally:
            self.feed.hint()

    async def _agree(self, asked: list[tuple[Call, Own]]) -> list[Reconciled | Failure | None]:
        return await self._once(asked, reconcile.agree)

    async def _beat(self, asked: list[tuple[Call, Heartbeat]]) -> list[Failure | None]:
        renewed = await self._once(asked, nodes.renew_each)
        rest = [at for at, answer in enumerate(renewed) if answer is False]
        answers = [answer if isinstance(answer, Failure) else None for answer in renewed]
        if rest:
            results = await self.write(nodes.beat, [asked[at][1] for at in rest])
            for at, result in zip(rest, results, strict=True):
                answers[at] = result if isinstance(result, Failure) else None
        return answers

    async def _look_up(self, ids: list[bytes]) -> list[Transport | None]:
        found = await self.database.read(transports.by_id, ids)
        return [found.get(key) for key in ids]

    async def _list(self, keys: list[PublicKey]) -> list[list[Transport]]:
        found = await self.database.read(transports.by_edge, keys)
        return [found[key] for key in keys]

    async def _resolve(self, keys: list[PublicKey]) -> list[Node | None]:
        found = await self.database.read(nodes.by_key, keys)
        return [found.get(key) for key in keys]


def _served() -> Call:
    """Take the signed call that the task serves along; raises LocalError if there is none: a write was not signed."""
    call = _SERVED.get()
    if call is None:
        raise LocalError("a write belongs to a signed call, and each is good for one")
    _SERVED.set(None)
    return call


def unknown_node(key: bytes) -> Failure:
    """Return the failure for a key that nobody registered."""
    return Failure(ErrorCode.UNKNOWN_NODE, f"nobody ever registered {key.hex()}", FailureFields(hop_key=key))
