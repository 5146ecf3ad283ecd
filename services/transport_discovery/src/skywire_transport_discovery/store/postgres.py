"""PostgreSQL: any number of replicas, a bounded pool each, and a deadline on everything.

A server that does not answer (stopped, frozen, cut off) is noticed by deadline: the connection's socket is shut down
under the waiting query, which then fails like any lost connection. Cancelling would not do: the driver would wait for
the server to agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from sqlalchemy import URL, Connection, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from skywire_transport_discovery.store import migrate
from skywire_transport_discovery.store.away import ATTEMPTS, translate, try_again, unavailable

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
# Whatever the server's is: from one without any (SQL_ASCII) the driver would read bytes for text.
ENCODING = "utf8"
# A connection that was used within this time is not checked again.
FRESH_S = 1.0


class Postgres:
    """One replica's engine."""

    def __init__(self, url: URL) -> None:
        self._engine = create_async_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=POOL_WAIT_S,
            connect_args={
                "connect_timeout": CONNECT_S,
                "application_name": "skywire-discovery",
                "client_encoding": ENCODING,
                "options": f"-c statement_timeout={STATEMENT_MS} -c lock_timeout={LOCK_MS}"
                f" -c idle_in_transaction_session_timeout={int(TRANSACTION_S * 1000)}",
            },
        )
        _check_idle_connections(self._engine)

    async def write(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the work in one transaction, again if it lost a race."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._engine.connect() as connection, _deadline(connection), connection.begin():
                    return await connection.run_sync(work, *args, **kwargs)
            except exc.DBAPIError as error:
                if not try_again(error, attempt):
                    raise translate(error) from error
            except (exc.TimeoutError, psycopg.OperationalError, OSError) as error:
                raise unavailable(error) from error
        raise AssertionError("unreachable")

    read = write

    async def upgrade(self, to: str) -> str:
        """Migrate; a migration may take any time."""
        try:
            async with self._engine.connect() as connection, connection.begin():
                return await connection.run_sync(migrate.upgrade, to)
        except exc.DBAPIError as error:
            raise translate(error) from error

    def pools(self) -> list[Any]:
        """Return the pool of connections."""
        return [self._engine.pool]

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


async def notifications(url: str, channel: str) -> AsyncIterator[None]:
    """Listen on a channel: yield once it is heard, and with every notification; raises Failure when it is lost."""
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn,
            autocommit=True,
            connect_timeout=CONNECT_S,
            application_name="skywire-discovery listen",
            client_encoding=ENCODING,
        ) as connection:
            await connection.execute(f"LISTEN {channel}")
            yield
            async for _ in connection.notifies():
                yield
    except (psycopg.Error, OSError) as error:
        raise unavailable(error) from error


@contextlib.asynccontextmanager
async def _deadline(connection: AsyncConnection) -> AsyncIterator[None]:
    """Shut the connection's socket down if the block does not end in TRANSACTION_S."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
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
