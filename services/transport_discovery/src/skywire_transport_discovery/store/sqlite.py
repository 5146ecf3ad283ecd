"""SQLite: one process, one connection that writes, and each transaction in one turn of a thread.

A statement takes 20 µs and a hop to a driver's thread and back 200, so a transaction hops once, not with every
statement. The file belongs to this process, which holds a lock beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO, TypeVar

from skywire_common.errors import LocalError
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc

from skywire_transport_discovery.store import migrate
from skywire_transport_discovery.store.away import translate, unavailable

P = ParamSpec("P")
R = TypeVar("R")

READERS = 2
BUSY_MS = 5000
# What the log may grow to before it is written to the file, which waits for the disk: 32 MB. At the default of 4 MB a
# busy discovery does that several times a second.
CHECKPOINT_PAGES = 8192
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=NORMAL",
    f"wal_autocheckpoint={CHECKPOINT_PAGES}",
    f"busy_timeout={BUSY_MS}",
    "cache_size=-32000",
    "temp_store=MEMORY",
)


class Sqlite:
    """A file's engines and threads; raises LocalError if another process has the file.

    A file or folder that cannot be written is away like any database, until it can.
    """

    def __init__(self, url: URL) -> None:
        self._lock = _FileLock(Path(f"{url.database}.lock"))
        with contextlib.suppress(OSError):
            self._lock.take()
        parsed = url.set(drivername="sqlite+pysqlite")
        self._writer = _engine(parsed, "IMMEDIATE", 1)
        self._reader = _engine(parsed, "DEFERRED", READERS)
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-write")
        self._read_threads = ThreadPoolExecutor(READERS, thread_name_prefix="sqlite-read")

    async def write(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the work in the thread that writes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._write_thread, lambda: self._transact(self._writer, work, *args, **kwargs)
        )

    async def read(self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the work in a thread that reads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._read_threads, lambda: self._transact(self._reader, work, *args, **kwargs)
        )

    async def upgrade(self, to: str) -> str:
        """Migrate the file."""
        return await self.write(migrate.upgrade, to)

    def pools(self) -> list[Any]:
        """Return the pools of connections."""
        return [self._writer.pool, self._reader.pool]

    async def close(self) -> None:
        """Close all connections and give the file's lock back."""
        self._write_thread.shutdown()
        self._read_threads.shutdown()
        self._writer.dispose()
        self._reader.dispose()
        self._lock.release()

    def _transact(
        self, engine: Engine, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        try:
            self._lock.take()
            with engine.begin() as connection:
                return work(connection, *args, **kwargs)
        except exc.DBAPIError as error:
            # A connection that was opened when the file could only be read never writes, whatever the file is now.
            engine.dispose()
            raise translate(error) from error
        except (exc.TimeoutError, OSError, LocalError) as error:
            raise unavailable(error) from error


def _engine(url: URL, begin: str, connections: int) -> Engine:
    """Take transactions into our own hands: the driver would begin them late, and lose updates."""
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    return engine


class _FileLock:
    """Held while this process uses the SQLite file; another process is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._taking = threading.Lock()

    def take(self) -> None:
        """Have the lock; raises LocalError if another process has it, OSError if there can be no lock."""
        with self._taking:
            if self._file is not None:
                return
            file = self._path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.close()
                raise LocalError(
                    f"{self._path} is locked: another process uses this SQLite file; replicas need PostgreSQL"
                ) from error
            self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            self._file.close()
