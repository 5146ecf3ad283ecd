"""Keep one replica's graph and its watchers at what the change log says.

Every replica follows the same log: it loads the graph once, then reads what came after its revision, at each hint (its
own writes; PostgreSQL's NOTIFY) and at least every POLL_S. Hints may be lost; polling is the truth. If the log does not
go on where this replica stands (restored from a backup, pruned beyond), the graph is loaded anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from skywire_common.errors import ErrorCode, Failure, FailureFields
from sqlalchemy import Connection

from skywire_transport_discovery.graph import Graph
from skywire_transport_discovery.standing import Node, Transport
from skywire_transport_discovery.store import changes, nodes, transports
from skywire_transport_discovery.store.changes import MAX_READ, Logged
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.watching import Event, Ring

POLL_S = 0.5
# Many writes come in one read; nobody but a watcher notices.
LINGER_S = 0.05
PAGE = 5_000
MAX_CATCH_UP = 10_000
FRESH_WAIT_S = 1.0
_ID_SIZE = 16


class Feed:
    """Owns `graph` and `ring`; one task runs `load` and `poll`, everybody else reads."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.graph = Graph()
        self.ring = Ring()
        self.loaded = False
        self._database = database
        self._monotonic = monotonic
        self._current_at = monotonic()
        # The change that the graph is at, as it stands in the log; None before the first.
        self._at: Logged | None = None
        self._hint = asyncio.Event()
        self._urgent = asyncio.Event()
        self._asked = 0
        self._answered = 0
        self._polled = asyncio.Event()

    @property
    def age_ms(self) -> int:
        """How long ago the graph was known to be current."""
        return int((self._monotonic() - self._current_at) * 1000)

    def hint(self) -> None:
        """Something was written: read the log soon."""
        self._asked += 1
        self._hint.set()

    async def hinted(self) -> None:
        """Wait for a hint, at most POLL_S, and then a little for more, unless somebody waits for the answer."""
        await _at_most(POLL_S, self._hint)
        await _at_most(LINGER_S, self._urgent)
        self._hint.clear()
        self._urgent.clear()

    async def fresh(self) -> None:
        """Wait until what this replica has written is in the graph, at most FRESH_WAIT_S; raises UNAVAILABLE before
        the graph was loaded."""
        if not self.loaded:
            raise Failure(
                ErrorCode.UNAVAILABLE, "the graph is not loaded yet: no database", FailureFields(retryable=True)
            )
        wanted = self._asked
        if self._answered >= wanted:
            return
        self._urgent.set()
        self._hint.set()
        try:
            async with asyncio.timeout(FRESH_WAIT_S):
                while self._answered < wanted:
                    await self._polled.wait()
        except TimeoutError:
            pass  # the answer says how old it is

    async def load(self) -> None:
        """Build the graph anew from the tables; raises Failure UNAVAILABLE."""
        asked, began = self._asked, self._monotonic()
        graph = Graph()
        # The log is read from here on afterwards, so that what changes while the pages are read is not lost.
        revision, at = await self._database.read(_position)
        after = b""
        while links := await self._database.read(transports.page_of_links, after, PAGE):
            for transport, first, second in links:
                graph.connect(transport, first, second)
            after = links[-1].id
        after = b""
        while limits := await self._database.read(nodes.page_of_limits, after, PAGE):
            for key, most in limits:
                graph.limit(key, most)
            after = limits[-1].key
        self.graph, self._at, self.loaded = graph, at, True
        self.ring.reset(revision)
        self._seen(asked, began)

    async def poll(self) -> None:
        """Apply what the log has more; raises Failure UNAVAILABLE."""
        while True:
            asked, began = self._asked, self._monotonic()
            revision, logged = await self._database.read(_tail, self.ring.revision)
            if not self._goes_on(revision, logged):
                await self.load()
                return
            new = [one for one in logged if one.revision > self.ring.revision]
            if new:
                await self._apply(new)
            if len(logged) < MAX_READ:
                self._seen(asked, began)
                return

    def _goes_on(self, revision: int, logged: list[Logged]) -> bool:
        """Say whether the log still holds the change that the graph is at, or goes on right after it."""
        here = self.ring.revision
        if revision < here:
            return False
        if not logged:
            return revision == here
        if logged[0].revision == here:
            return self._at is None or logged[0] == self._at
        return logged[0].revision == here + 1

    async def reach(self, revision: int) -> None:
        """Wait until the graph is at a revision, which another replica may have reached first, at most FRESH_WAIT_S."""
        generation = self.ring.generation
        try:
            async with asyncio.timeout(FRESH_WAIT_S):
                await self.ring.wait(revision - 1, generation)
        except TimeoutError:
            pass  # a revision that the database does not have

    async def catch_up(self, revision: int) -> tuple[list[Event], int] | None:
        """Return the last event of each transport above a revision, in order, and the revision that they lead up to.

        None if the log does not go on from there, or is MAX_CATCH_UP changes ahead. The ring goes on from the
        revision returned as long as somebody watches.
        """
        reached = self.ring.revision
        logged = await self._database.read(changes.since, revision, MAX_CATCH_UP)
        if len(logged) == MAX_CATCH_UP or not logged or logged[0].revision != revision or revision > reached:
            return None
        subjects = {
            one.change.subject: one
            for one in logged[1:]
            if len(one.change.subject) == _ID_SIZE and one.revision <= reached
        }
        found, _ = await self._database.read(_subjects, list(subjects))
        events = [Event(one.revision, subject, found.get(subject)) for subject, one in subjects.items()]
        return sorted(events, key=lambda event: event.revision), reached

    async def _apply(self, new: list[Logged]) -> None:
        subjects = {one.change.subject: one for one in new}  # the last change of each
        while True:
            watched = self.ring.watchers > 0
            wanted = [subject for subject, one in subjects.items() if watched or self._unclear(one)]
            found, lives = await self._database.read(_subjects, wanted) if wanted else ({}, {})
            if watched or not self.ring.watchers:
                break  # else the first watcher came meanwhile, and wants all of it
        events: list[Event] = []
        for subject, one in subjects.items():
            if len(subject) != _ID_SIZE:
                node = lives.get(subject)
                self.graph.limit(subject, node.max_hops if node else 0)
            elif watched or subject in found:
                self._place(subject, found.get(subject))
                events.append(Event(one.revision, subject, found.get(subject)))
            elif not one.change.is_up:
                self.graph.disconnect(subject)
        self._at = new[-1]
        if watched:
            events.sort(key=lambda event: event.revision)
            self.ring.publish(new[-1].revision, events)
        else:
            self.ring.pass_over(new[-1].revision)

    def _unclear(self, one: Logged) -> bool:
        """Say whether the graph wants more than the log tells: a node's limit, the edges of what came up."""
        change = one.change
        return len(change.subject) != _ID_SIZE or (change.is_up and self.graph.find_link(change.subject) is None)

    def _place(self, subject: bytes, transport: Transport | None) -> None:
        # Nobody may route over a private transport but its edges, who know it themselves.
        if transport is not None and transport.is_up and transport.signed.entry.public:
            self.graph.connect(subject, *transport.signed.entry.edges)
        else:
            self.graph.disconnect(subject)

    def _seen(self, asked: int, began: float) -> None:
        self._answered = asked
        self._current_at = began
        self._polled.set()
        self._polled = asyncio.Event()


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _position(db: Connection) -> tuple[int, Logged | None]:
    revision = changes.revision(db)
    logged = changes.since(db, revision, 1)
    return revision, logged[0] if logged and logged[0].revision == revision else None


def _tail(db: Connection, revision: int) -> tuple[int, list[Logged]]:
    return changes.revision(db), changes.since(db, revision)


def _subjects(db: Connection, subjects: list[bytes]) -> tuple[dict[bytes, Transport], dict[bytes, Node]]:
    ids = [subject for subject in subjects if len(subject) == _ID_SIZE]
    keys = [subject for subject in subjects if len(subject) != _ID_SIZE]
    return (transports.by_id(db, ids) if ids else {}), (nodes.by_key(db, keys) if keys else {})
