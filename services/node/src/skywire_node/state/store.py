"""What a node remembers over restarts: one SQLite file in its own directory. The node's only SQL.

Rules are written in batches, off the way of packets: `keep_rules` writes what changed since its last call. Loops live
in memory, so rules at their ends are not written; a node in the middle comes back and goes on forwarding.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from skywire_common import rules as rule_codec
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import PublicKey
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from skywire_node.routing.leases import Kept
from skywire_node.routing.table import RoutingTable
from skywire_node.state.schema import APPS, RULES, TRANSPORTS

FILE_NAME = "node.sqlite"
BUSY_MS = 10_000
_MIGRATIONS = Path(__file__).parent / "migrations"
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_MS}")


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


class Store:
    """The node's file; `open` it, `close` it. Every call is one transaction and raises Failure (UNAVAILABLE)."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, directory: Path) -> Store:
        """Open the file, made and migrated as needed."""
        store = cls(_engine(directory))
        try:
            async with _transaction(store._engine) as connection:
                await connection.run_sync(_migrate)
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close the file."""
        await self._engine.dispose()

    async def load_rules(self) -> list[Kept]:
        """Return every rule of the file; a row that cannot be read is left out."""
        async with _transaction(self._engine) as connection:
            rows = (await connection.execute(sa.select(RULES))).mappings().all()
        return [kept for row in rows if (kept := _kept(row)) is not None]

    async def keep_rules(self, table: RoutingTable, now: float, epoch_now: float) -> None:
        """Write what changed in the table since the last call; if that fails, the next call writes all of it."""
        changed = table.take_changed()
        ids = list(table.rules) if changed is None else changed
        kept = {route_id: table.keep(route_id, now, epoch_now) for route_id in ids}
        if changed is not None and not changed:
            return
        try:
            async with _transaction(self._engine) as connection:
                if changed is None:
                    await connection.execute(sa.delete(RULES))
                gone = [{"gone": route_id} for route_id, rule in kept.items() if rule is None]
                if gone and changed is not None:
                    await connection.execute(sa.delete(RULES).where(RULES.c.route_id == sa.bindparam("gone")), gone)
                await _upsert(connection, RULES, [_row(rule) for rule in kept.values() if rule is not None])
        except BaseException:
            table.note_all()
            raise

    async def load_transports(self) -> list[KeptTransport]:
        """Return every transport of the file."""
        async with _transaction(self._engine) as connection:
            rows = (await connection.execute(sa.select(TRANSPORTS))).mappings().all()
        return [
            KeptTransport(
                **{**row, "transport_id": UUID(bytes=row["transport_id"]), "remote": PublicKey(row["remote"])}
            )
            for row in rows
        ]

    async def keep_transports(self, transports: Iterable[KeptTransport]) -> None:
        """Write these transports with their counts."""
        rows = [{**kept._asdict(), "transport_id": kept.transport_id.bytes} for kept in transports]
        async with _transaction(self._engine) as connection:
            await _upsert(connection, TRANSPORTS, rows)

    async def forget_transport(self, transport: UUID) -> None:
        """Forget a transport and its counts."""
        async with _transaction(self._engine) as connection:
            await connection.execute(sa.delete(TRANSPORTS).where(TRANSPORTS.c.transport_id == transport.bytes))

    async def load_auto_start(self) -> dict[str, bool]:
        """Return what the owner chose for apps, over what the config says."""
        async with _transaction(self._engine) as connection:
            rows = (await connection.execute(sa.select(APPS))).mappings().all()
        return {row["name"]: row["auto_start"] for row in rows}

    async def keep_auto_start(self, name: str, auto_start: bool) -> None:
        """Remember whether an app starts with the node."""
        async with _transaction(self._engine) as connection:
            await _upsert(connection, APPS, [{"name": name, "auto_start": auto_start}])


@asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction of the engine; what SQL raises becomes a Failure."""
    try:
        async with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise _failure(error) from error


def _engine(directory: Path) -> AsyncEngine:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failure(error) from error
    engine = create_async_engine(f"sqlite+aiosqlite:///{directory / FILE_NAME}")
    sa.event.listen(engine.sync_engine, "connect", _on_connect)
    sa.event.listen(engine.sync_engine, "begin", _on_begin)
    return engine


def _failure(error: Exception) -> Failure:
    cause = getattr(error, "orig", None) or error
    return Failure(ErrorCode.UNAVAILABLE, f"the node's file cannot be used: {cause}")


def head() -> str:
    """Return the newest revision of the schema: migrations are numbered in the names of their files."""
    return max(path.stem for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _migrate(connection: sa.Connection) -> None:
    """Bring the file to the newest revision. Alembic costs a third of a start, so it is loaded when it has work."""
    has_table = sa.inspect(connection).has_table("alembic_version")
    if has_table and connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == head():
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:  # for example: the file was made by a newer node
        raise _failure(error) from error


def _on_connect(connection: Any, _record: Any) -> None:
    """Let SQLAlchemy's BEGIN be the only one: the driver's own comes too late and loses updates."""
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:
        # The pool does not know the connection yet, and its thread would stay.
        connection.close()
        raise


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _upsert(connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    statement = insert(table)
    key = [column.name for column in table.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in key}
    await connection.execute(statement.on_conflict_do_update(index_elements=key, set_=others), list(rows))


def _row(kept: Kept) -> dict[str, Any]:
    assert kept.from_transport is not None  # noqa: S101 - what the table keeps
    return {**kept._asdict(), "rule": kept.rule.encode(), "from_transport": kept.from_transport.bytes}


def _kept(row: sa.RowMapping) -> Kept | None:
    try:
        rule = rule_codec.decode(row["rule"])
    except DecodeError:
        return None
    return Kept(**{**row, "rule": rule, "from_transport": UUID(bytes=row["from_transport"])})
