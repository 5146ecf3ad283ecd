"""Engines, transactions and their end: one code path for SQLite and PostgreSQL, chosen by the URL.

Every transaction is a task of its own: a caller that is cancelled leaves it alone, and no connection is lost. A
PostgreSQL that does not answer (stopped, frozen, cut off) is noticed by deadline: the connection's socket is shut
down under the waiting query, which then fails like any lost connection. The errors of both come out as Failure
UNAVAILABLE; whatever else SQL raises is a bug.

SQLite belongs to one process, which holds a lock beside the file, and has one connection that writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from skywire_common.errors import ErrorCode, Failure, FailureFields, LocalError
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from skywire_transport_discovery.store import migrate

P = ParamSpec("P")
R = TypeVar("R")

POOL_SIZE = 8
# A transaction, a wait for a free connection, a connect, a check of an idle connection.
TRANSACTION_S = 5.0
POOL_WAIT_S = 3.0
CONNECT_S = 2
PING_S = 1.5
STATEMENT_MS = 4000
LOCK_MS = 2000
# A connection that was used within this time is not checked again.
FRESH_S = 1.0
SQLITE_BUSY_MS = 5000
# PostgreSQL's own cure for a deadlock or a lost race is to try again.
ATTEMPTS = 3
_TRY_AGAIN = ("40P01", "40001")


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
    """The store's engine. `write` and `read` run a function of a connection in one transaction."""

    def __init__(self, url: str) -> None:
        parsed = check_url(url)
        self.dialect = parsed.get_backend_name()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lock: _FileLock | None = None
        if self.dialect == "sqlite":
            self._lock = _FileLock(Path(f"{parsed.database}.lock"))
            parsed = parsed.set(drivername="sqlite+aiosqlite")
            self.writer = create_async_engine(parsed, pool_size=1, max_overflow=0, pool_timeout=POOL_WAIT_S)
            self.reader = create_async_engine(parsed, pool_size=4, max_overflow=0, pool_timeout=POOL_WAIT_S)
            _prepare_sqlite(self.writer, "IMMEDIATE")
            _prepare_sqlite(self.reader, "DEFERRED")
        else:
            self.writer = self.reader = create_async_engine(
                parsed.set(drivername="postgresql+psycopg"),
                pool_size=POOL_SIZE,
                max_overflow=0,
                pool_timeout=POOL_WAIT_S,
                connect_args={
                    "connect_timeout": CONNECT_S,
                    "application_name": "skywire-discovery",
                    "options": f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS}"
                    f" -c idle_in_transaction_session_timeout={int(TRANSACTION_S * 1000)}",
                },
            )
            _check_idle_connections(self.writer)

    async def write(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work(connection, ...)` in one transaction that may write; raises Failure UNAVAILABLE."""
        return await self._apart(self._transact(self.writer, work, *args, **kwargs))

    async def read(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work(connection, ...)` in one transaction that only reads; raises Failure UNAVAILABLE."""
        return await self._apart(self._transact(self.reader, work, *args, **kwargs))

    async def upgrade(self, to: str = "head") -> str:
        """Migrate the schema and return its revision; a migration may take any time."""
        try:
            async with self.writer.connect() as connection, connection.begin():
                return await connection.run_sync(migrate.upgrade, to)
        except exc.DBAPIError as error:
            raise _translate(error) from error

    def pool_counts(self) -> tuple[int, int]:
        """Return how many connections are in use and how many may be."""
        pools = {engine.pool for engine in (self.writer, self.reader)}
        queues = [pool for pool in pools if isinstance(pool, AsyncAdaptedQueuePool)]
        return sum(pool.checkedout() for pool in queues), sum(pool.size() for pool in queues)

    def running(self) -> tuple[asyncio.Task[Any], ...]:
        """Return the transactions under way, whether or not somebody still waits for them."""
        return tuple(self._tasks)

    async def close(self) -> None:
        """Wait for what runs, close all connections, give the file's lock back."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.writer.dispose()
        await self.reader.dispose()
        if self._lock is not None:
            self._lock.release()

    async def _apart(self, work: Awaitable[R]) -> R:
        task: asyncio.Task[R] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _transact(
        self, engine: AsyncEngine, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with engine.connect() as connection, _deadline(connection), connection.begin():
                    return await connection.run_sync(work, *args, **kwargs)
            except exc.DBAPIError as error:
                if attempt < ATTEMPTS and getattr(error.orig, "sqlstate", None) in _TRY_AGAIN:
                    continue
                raise _translate(error) from error
            except (exc.TimeoutError, psycopg.OperationalError, OSError) as error:
                raise _unavailable(error) from error
        raise AssertionError("unreachable")


def _translate(error: exc.DBAPIError) -> Failure | exc.DBAPIError:
    """Return the Failure of a database that is away or overloaded, and any other error, a bug, as it is."""
    away = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    return _unavailable(error) if away or error.connection_invalidated else error


def _unavailable(error: Exception) -> Failure:
    said = getattr(error, "orig", None) or error
    first_line = (str(said).strip() or type(said).__name__).splitlines()[0]
    return Failure(ErrorCode.UNAVAILABLE, f"the database: {first_line}", FailureFields(retryable=True))


@contextlib.asynccontextmanager
async def _deadline(connection: AsyncConnection) -> AsyncIterator[None]:
    """Shut the connection's socket down if the block does not end in TRANSACTION_S; SQLite has no socket."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):
        yield
        return
    timer = asyncio.get_running_loop().call_later(TRANSACTION_S, _cut, driver)
    try:
        yield
    finally:
        timer.cancel()


def _cut(driver: psycopg.AsyncConnection[Any]) -> None:
    if driver.closed:
        return
    with socket.socket(fileno=os.dup(driver.pgconn.socket)) as line, contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


def _check_idle_connections(engine: AsyncEngine) -> None:
    """Ask a connection that lay idle whether it lives before it is used (SQLAlchemy's pre-ping has no deadline)."""

    @event.listens_for(engine.sync_engine, "checkin")
    def _note(_driver: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def _ping(adapted: Any, record: Any, _proxy: Any) -> None:
        used = record.info.get("used")
        if used is None or time.monotonic() - used < FRESH_S:
            return
        timer = asyncio.get_running_loop().call_later(PING_S, _cut, adapted.driver_connection)
        try:
            engine.dialect.do_ping(adapted)
        except psycopg.Error as error:
            raise exc.DisconnectionError from error
        finally:
            timer.cancel()


def _prepare_sqlite(engine: AsyncEngine, begin: str) -> None:
    """Take transactions into our own hands: the driver would begin them late, and lose updates."""

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(adapted: Any, _record: Any) -> None:
        adapted.isolation_level = None
        cursor = adapted.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"busy_timeout={SQLITE_BUSY_MS}",
            "cache_size=-32000",
            "temp_store=MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")


class _FileLock:
    """Held while this process uses the SQLite file; another process is refused."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise LocalError(
                f"{path} is locked: another process uses this SQLite file; replicas need PostgreSQL"
            ) from error

    def release(self) -> None:
        self._file.close()
