"""PostgreSQL's own bounds: connections, time of a statement, wait for a lock, and sessions that died in the pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from postgres_server import PostgresServer
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.store import changes, migrate, postgres
from skywire_transport_discovery.store.database import Database
from sqlalchemy import Connection, text


@contextlib.asynccontextmanager
async def opened(server: PostgresServer) -> AsyncIterator[tuple[Database, str]]:
    """Yield a database with the newest schema and its name."""
    with server.database(server.discovery_template()) as name:
        database = Database(server.url(name))
        try:
            yield database, name
        finally:
            await database.close()


def sleep(db: Connection, seconds: float) -> None:
    db.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})


async def test_connections_are_bounded(server: PostgresServer) -> None:
    async with opened(server) as (database, name):
        await asyncio.gather(*(database.read(sleep, 0.02) for _ in range(2 * postgres.POOL_SIZE)))
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
            # The pool keeps what it opened.
            found = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (name,)).fetchone()
        assert found is not None
        assert 1 < found[0] <= postgres.POOL_SIZE
        assert database.pool_counts() == (0, postgres.POOL_SIZE)


async def test_a_statement_that_takes_too_long_is_ended(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STATEMENT_MS", 50)
    async with opened(server) as (database, _):
        with pytest.raises(Failure, match="statement timeout") as failure:
            await database.read(sleep, 60)
        assert failure.value.code is ErrorCode.UNAVAILABLE
        assert await database.read(migrate.current) == migrate.newest()


async def test_a_lock_that_nobody_gives_back_is_not_waited_for_forever(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_MS", 50)
    async with opened(server) as (database, name):
        with psycopg.connect(server.dsn(name)) as other:
            other.execute("SELECT value FROM counters WHERE name = 'revision' FOR UPDATE")
            with pytest.raises(Failure, match="lock timeout") as failure:
                await database.write(changes.lock)
            assert failure.value.code is ErrorCode.UNAVAILABLE
            # Who only reads waits for no lock.
            assert await database.read(changes.revision) == 0
        assert await database.write(changes.lock) == 0


async def test_a_session_that_died_in_the_pool_is_nobodys_error(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "FRESH_S", 0.0)
    async with opened(server) as (database, name):
        for _ in range(3):
            await asyncio.gather(*(database.read(sleep, 0.01) for _ in range(postgres.POOL_SIZE)))
            assert await asyncio.to_thread(server.cut, name) > 0
            await asyncio.gather(*(database.read(changes.revision) for _ in range(postgres.POOL_SIZE)))


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:
    return postgres
