"""PostgreSQL's NOTIFY is a hint, polling the truth: a replica learns what others write by either alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
from postgres_server import PostgresServer
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.runtime.logging import get_logger
from skywire_transport_discovery import feed as feeding
from skywire_transport_discovery import upkeep as keeping
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.store import transports
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.transports import Said
from skywire_transport_discovery.upkeep import Upkeep

NEVER_S = 3600.0
DEADLINE_S = 30
LISTENING = "application_name = 'skywire-discovery listen'"


class Hinted(Feed):
    """Counts hints."""

    hints = 0

    def hint(self) -> None:
        self.hints += 1
        super().hint()


class Replicas:
    """One that follows and listens, but neither sweeps nor prunes, which would be hints; another one writes."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self._dsn, self._name = server.dsn("postgres"), name
        self._url = server.url(name)
        self._here, self._there = Database(self._url), Database(self._url)
        self.feed = Hinted(self._here)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        upkeep = Upkeep(Registry(self._here, self.feed), get_logger("test"), lambda serving: None)
        self._tasks = [asyncio.create_task(upkeep.follow()), asyncio.create_task(upkeep.listen(self._url))]
        await upkeep.tried()
        await self.heard(1)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._here.close()
        await self._there.close()

    async def heard(self, hints: int) -> None:
        """Wait until so many hints came and are answered: whatever is learned from now on, something else tells of."""
        await until(lambda: self.feed.hints >= hints)
        await self.feed.fresh()

    async def write(self) -> Callable[[], bool]:
        """Have a transport come up at the other replica; return what says whether this one knows."""
        a, b = SecretKey.generate(), SecretKey.generate()
        signed = SignedEntry.unsigned(Entry.between(a.public, b.public, "tcp", True)).sign(a).sign(b)
        key = signed.entry.transport_id.bytes
        await self._there.write(transports.register, [[signed]])
        await self._there.write(transports.say, [Said(a.public, [(key, True)])])
        return lambda: self.feed.graph.find_link(key) is not None

    async def cut(self) -> None:
        """End the connection that listens, and wait until it is gone."""
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as admin:
            of = f"FROM pg_stat_activity WHERE datname = '{self._name}' AND {LISTENING}"
            [(pid,)] = await (await admin.execute(f"SELECT pid {of}")).fetchall()
            await admin.execute(f"SELECT pg_terminate_backend({pid})")
            async with asyncio.timeout(DEADLINE_S):
                while await (await admin.execute(f"SELECT pid {of} AND pid = {pid}")).fetchall():
                    await asyncio.sleep(0.01)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def replicas(server: PostgresServer) -> AsyncIterator[Replicas]:
    with server.database(server.discovery_template()) as name:
        both = Replicas(server, name)
        try:
            await both.start()
            yield both
        finally:
            await both.stop()


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:
    return postgres


async def test_a_change_is_learned_by_its_notification_long_before_the_next_poll(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "POLL_S", NEVER_S)
    async with replicas(server) as both:
        for _ in range(2):
            await until(await both.write())


async def test_a_change_is_learned_by_polling_when_nobody_listens(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "POLL_S", 0.02)
    monkeypatch.setattr(keeping, "LISTEN_RETRY_S", NEVER_S)
    async with replicas(server) as both:
        await both.cut()
        hints = both.feed.hints
        for _ in range(2):
            await until(await both.write())
        assert both.feed.hints == hints


async def test_a_replica_that_could_not_listen_listens_again_and_learns_what_it_missed(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "POLL_S", NEVER_S)
    monkeypatch.setattr(keeping, "LISTEN_RETRY_S", 0.01)
    async with replicas(server) as both:
        hints = both.feed.hints
        await both.cut()
        missed = await both.write()
        await both.heard(hints + 1)
        await until(missed)
        await until(await both.write())
