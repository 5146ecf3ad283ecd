"""What a node remembers over restarts: one SQLite file in its own directory. The node's only SQL.

Rules are written in batches, off the way of packets: `keep_rules` writes what changed since its last call. Loops live
in memory, so rules at their ends are not written; a node in the middle comes back and goes on forwarding.

The standard library's driver, in one thread: a node of a dozen statements starts in half the time without SQLAlchemy.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from skywire_common import disk
from skywire_common import rules as rule_codec
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LocalError
from skywire_common.keys import PublicKey

from skywire_node.routing.leases import Kept
from skywire_node.routing.table import RoutingTable
from skywire_node.state.schema import TABLES, head

FILE_NAME = "node.sqlite"
BUSY_MS = 10_000
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_MS}")

R = TypeVar("R")


class KeptTransport(NamedTuple):
    """A transport as it survives restarts.

    `wanted`: added by hand, so it is dialled again. `entry`: signed JSON, empty before settlement.
    """

    transport_id: UUID
    remote: PublicKey
    kind: str
    public: bool
    address: str
    wanted: bool
    entry: bytes
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int


class CarriedOnDay(NamedTuple):
    """What a transport carried on one day, UTC, written 2026-11-22."""

    transport_id: UUID
    day: str
    remote: PublicKey
    kind: str
    public: bool
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int


class Store:
    """The node's file; `open` it, `close` it. Every call is one transaction and raises Failure (UNAVAILABLE)."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._db: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, directory: Path) -> Store:
        """Open the file, made and migrated as needed."""
        store = cls()
        try:
            store._db = await store._in_thread(lambda: _open(directory))
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close the file, once what is under way is done."""
        db, self._db = self._db, None
        if db is not None:
            await self._in_thread(db.close)
        self._thread.shutdown(wait=False)

    async def load_rules(self) -> list[Kept]:
        """Return every rule of the file; a row that cannot be read is left out."""
        rows = await self._transact(lambda db: _select(db, "rules", Kept._fields))
        return [kept for row in rows if (kept := _kept(row)) is not None]

    async def keep_rules(self, table: RoutingTable, now: float, epoch_now: float) -> None:
        """Write what changed in the table since the last call; if that fails, the next call writes all of it."""
        changed = table.take_changed()
        if changed is not None and not changed:
            return
        ids = list(table.rules) if changed is None else changed
        kept = {route_id: table.keep(route_id, now, epoch_now) for route_id in ids}
        rows = [_row(rule) for rule in kept.values() if rule is not None]
        gone = [(route_id,) for route_id, rule in kept.items() if rule is None]

        def write(db: sqlite3.Connection) -> None:
            if changed is None:
                db.execute("DELETE FROM rules")
            else:
                db.executemany("DELETE FROM rules WHERE route_id = ?", gone)
            _replace(db, "rules", Kept._fields, rows)

        try:
            await self._transact(write)
        except BaseException:
            table.note_all()
            raise

    async def load_transports(self) -> list[KeptTransport]:
        """Return every transport of the file."""
        rows = await self._transact(lambda db: _select(db, "transports", KeptTransport._fields))
        return [_transport(KeptTransport(*row)) for row in rows]

    async def keep_transports(self, transports: Iterable[KeptTransport]) -> None:
        """Write these transports with their counts."""
        rows = [kept._replace(transport_id=kept.transport_id.bytes) for kept in transports]  # type: ignore[arg-type]
        await self._transact(lambda db: _replace(db, "transports", KeptTransport._fields, rows))

    async def add_traffic(self, carried: Sequence[CarriedOnDay], *, since: str, most: int) -> None:
        """Add to what transports carried; days before `since`, and the oldest rows above `most`, are forgotten."""
        rows = [row._replace(transport_id=row.transport_id.bytes) for row in carried]  # type: ignore[arg-type]
        await self._transact(lambda db: _add_traffic(db, rows, since, most))

    async def load_traffic(self, transports: Sequence[UUID], since: str, most: int) -> list[CarriedOnDay]:
        """Return up to `most` rows of these transports, or of all if none is named, the newest day first."""
        named = [transport.bytes for transport in transports]
        rows = await self._transact(lambda db: _load_traffic(db, named, since, most))
        return [
            CarriedOnDay(*row)._replace(transport_id=UUID(bytes=row[0]), remote=PublicKey(row[2]), public=bool(row[4]))
            for row in rows
        ]

    async def load_auto_start(self) -> dict[str, bool]:
        """Return what the owner chose for apps, over what the config says."""
        rows = await self._transact(lambda db: _select(db, "apps", ("name", "auto_start")))
        return {name: bool(auto_start) for name, auto_start in rows}

    async def keep_auto_start(self, name: str, auto_start: bool) -> None:
        """Remember whether an app starts with the node."""
        await self._transact(lambda db: _replace(db, "apps", ("name", "auto_start"), [(name, auto_start)]))

    async def _transact(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Run `work` in one transaction; it ends in the thread whatever becomes of who waits for it."""
        db = self._db
        if db is None:
            raise Failure(ErrorCode.UNAVAILABLE, "the node's file is closed")
        return await self._in_thread(lambda: _transaction(db, work))

    async def _in_thread(self, work: Callable[[], R]) -> R:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, LocalError) as error:
            fields = FailureFields(retryable=True, limit=disk.limit_of(error))
            raise Failure(ErrorCode.UNAVAILABLE, f"the node's file cannot be used: {error}", fields) from error


def _open(directory: Path) -> sqlite3.Connection:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / FILE_NAME
    # Transactions are begun by hand: the driver's own BEGIN comes too late and loses updates.
    db = sqlite3.connect(file, isolation_level=None)
    try:
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        if _transaction(db, _made) != head():
            from skywire_node.state import migrate

            migrate.upgrade(file)
    except BaseException:
        db.close()
        raise
    return db


def _made(db: sqlite3.Connection) -> str | None:
    """Make the tables if the file is new; return the schema's revision."""
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
        for table in TABLES:
            db.execute(table)
        db.execute("INSERT INTO alembic_version VALUES (?)", (head(),))
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row: tuple[str] | None = db.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and row[0]


def _transaction(db: sqlite3.Connection, work: Callable[[sqlite3.Connection], R]) -> R:
    db.execute("BEGIN IMMEDIATE")
    try:
        result = work(db)
        db.execute("COMMIT")
    finally:
        # A disk that is full may have rolled back by itself.
        if db.in_transaction:
            db.execute("ROLLBACK")
    return result


# Names of tables and columns below are this module's own.


def _select(db: sqlite3.Connection, table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    with closing(db.execute(f"SELECT {', '.join(columns)} FROM {table}")) as found:  # noqa: S608
        return found.fetchall()


def _replace(db: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Write rows, each over the one with the same key."""
    marks = ", ".join("?" * len(columns))
    db.executemany(f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)  # noqa: S608


def _add_traffic(db: sqlite3.Connection, rows: Sequence[CarriedOnDay], since: str, most: int) -> None:
    marks = ", ".join("?" * len(CarriedOnDay._fields))
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in CarriedOnDay._fields[-4:])
    db.executemany(
        f"INSERT INTO traffic ({', '.join(CarriedOnDay._fields)}) VALUES ({marks})"  # noqa: S608
        f" ON CONFLICT (transport_id, day) DO UPDATE SET {sums}",
        rows,
    )
    db.execute("DELETE FROM traffic WHERE day < ?", (since,))
    (held,) = db.execute("SELECT count(*) FROM traffic").fetchone()
    if held > most:
        oldest = "SELECT rowid FROM traffic ORDER BY day LIMIT ?"
        db.execute(f"DELETE FROM traffic WHERE rowid IN ({oldest})", (held - most,))  # noqa: S608


def _load_traffic(db: sqlite3.Connection, named: Sequence[bytes], since: str, most: int) -> list[tuple[Any, ...]]:
    only = f" AND transport_id IN ({', '.join('?' * len(named))})" if named else ""
    with closing(
        db.execute(
            f"SELECT {', '.join(CarriedOnDay._fields)} FROM traffic WHERE day >= ?{only}"  # noqa: S608
            " ORDER BY day DESC, transport_id LIMIT ?",
            (since, *named, most),
        )
    ) as found:
        return found.fetchall()


def _row(kept: Kept) -> tuple[Any, ...]:
    assert kept.from_transport is not None  # noqa: S101 - what the table keeps
    return tuple({**kept._asdict(), "rule": kept.rule.encode(), "from_transport": kept.from_transport.bytes}.values())


def _kept(row: tuple[Any, ...]) -> Kept | None:
    kept = Kept(*row)
    try:
        rule = rule_codec.decode(row[Kept._fields.index("rule")])
    except DecodeError:
        return None
    transport = UUID(bytes=row[Kept._fields.index("from_transport")])
    return kept._replace(rule=rule, from_transport=transport)


def _transport(row: KeptTransport) -> KeptTransport:
    """Give the columns of a row their types."""
    return row._replace(
        transport_id=UUID(bytes=row.transport_id),  # type: ignore[arg-type]
        remote=PublicKey(row.remote),
        public=bool(row.public),
        wanted=bool(row.wanted),
    )
