"""The store's transactions: one way to run them on SQLite and PostgreSQL, chosen by the URL.

Work is a plain function of a connection. Every transaction is a task of its own: a caller that is cancelled leaves it
alone, and no connection is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, make_url

from skywire_transport_discovery.store import schema

if TYPE_CHECKING:
    from skywire_transport_discovery.store.postgres import Postgres
    from skywire_transport_discovery.store.sqlite import Sqlite

P = ParamSpec("P")
R = TypeVar("R")


def check_url(url: str) -> URL:
    """Return the parsed URL; raises ValueError if it names no database that the store can use."""
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ValueError("sqlite+aiosqlite:////path/to/file or postgresql+psycopg://user@host/name")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError("SQLite needs a file: sqlite+aiosqlite:////path/to/file")
    return parsed


class Database:
    """`write` and `read` run a function of a connection in one transaction; raises Failure UNAVAILABLE."""

    def __init__(self, url: str) -> None:
        parsed = check_url(url)
        self.dialect = parsed.get_backend_name()
        self._backend = _backend(parsed)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def write(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work(connection, ...)` in one transaction that may write."""
        return await self._apart(self._backend.write(work, *args, **kwargs))

    async def read(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work(connection, ...)` in one transaction that only reads."""
        return await self._apart(self._backend.read(work, *args, **kwargs))

    async def upgrade(self, to: str = "head") -> str:
        """Migrate the schema and return its revision."""
        return await self._apart(self._backend.upgrade(to))

    def pool_counts(self) -> tuple[int, int]:
        """Return how many connections are in use and how many may be."""
        pools = self._backend.pools()
        return sum(pool.checkedout() for pool in pools), sum(pool.size() for pool in pools)

    def running(self) -> tuple[asyncio.Task[Any], ...]:
        """Return the transactions under way, whether or not somebody still waits for them."""
        return tuple(self._tasks)

    async def close(self) -> None:
        """Wait for what runs and close all connections."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._backend.close()

    async def _apart(self, work: Coroutine[Any, Any, R]) -> R:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def _backend(url: URL) -> Sqlite | Postgres:
    """Load one driver: the other's would cost a tenth of a start."""
    schema.of_dialect(url.get_backend_name())
    if url.get_backend_name() == "sqlite":
        from skywire_transport_discovery.store.sqlite import Sqlite

        return Sqlite(url)
    from skywire_transport_discovery.store.postgres import Postgres

    return Postgres(url)
