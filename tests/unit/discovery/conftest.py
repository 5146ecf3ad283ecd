"""Both databases, each test with an empty one of its own; a network of keys."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer
from skywire_transport_discovery.store import postgres as postgres_store
from skywire_transport_discovery.store.database import Database


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as it takes for a database that is busy, not away: many tests run at once."""
    monkeypatch.setattr(postgres_store, "POOL_WAIT_S", 60.0)
    monkeypatch.setattr(postgres_store, "TRANSACTION_S", 60.0)
    monkeypatch.setattr(postgres_store, "STATEMENT_MS", 60_000)
    monkeypatch.setattr(postgres_store, "LOCK_MS", 60_000)
    monkeypatch.setattr(postgres_store, "PING_S", 60.0)


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    return PostgresServer.shared()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'discovery.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture
async def empty(database_url: str) -> AsyncIterator[Database]:
    """A database without tables."""
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with the newest schema."""
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            found = Database(f"sqlite+aiosqlite:///{tmp_path / 'discovery.db'}")
            await found.upgrade()
        else:
            server: PostgresServer = request.getfixturevalue("postgres")
            found = Database(server.url(stack.enter_context(server.database(server.discovery_template()))))
        yield found
        await found.close()
