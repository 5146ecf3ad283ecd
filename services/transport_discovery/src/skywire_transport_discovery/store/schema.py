"""The tables. Times are milliseconds or seconds of the database's own clock, as the name says; keys are raw bytes.

transports   one row per transport ever registered, with what each edge said and whether it is up
nodes        one row per key that the node directory heard of, with its lease
node_days    how long a node was online on a day (UTC, days since the epoch)
changes      the log that replicas and watchers follow: revision, what changed, its state after
nonces       next nonce of each key that signed an HTTP request
used_calls   signed gRPC calls that were accepted, for as long as they would be again
counters     `revision` (the last of changes; its row is the lock of all who change the graph), `swept_ms`,
             `nonces` (how many there are)
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"},
)

transports = Table(
    "transports",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("edge_a", LargeBinary(33), nullable=False, index=True),
    Column("edge_b", LargeBinary(33), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    Column("public", Boolean(create_constraint=False), nullable=False),
    Column("signature_a", LargeBinary(65), nullable=False),
    Column("signature_b", LargeBinary(65), nullable=False),
    Column("registered_s", BigInteger, nullable=False),
    # What the edges said: null never, else up or not; and when.
    Column("said_a", Boolean(create_constraint=False)),
    Column("said_b", Boolean(create_constraint=False)),
    Column("said_a_s", BigInteger, nullable=False, server_default=text("0")),
    Column("said_b_s", BigInteger, nullable=False, server_default=text("0")),
    Column("is_up", Boolean(create_constraint=False), nullable=False),
    # When it last changed, registered again, or was spoken of: what is old and down is pruned.
    Column("touched_ms", BigInteger, nullable=False),
)
_TRANSPORTS_DOWN = Index("ix_transports_down", transports.c.touched_ms)


def of_dialect(name: str) -> None:
    """Say what only one kind of database is told; naming a dialect loads it, which costs a twentieth of a start."""
    _TRANSPORTS_DOWN.dialect_kwargs[f"{name}_where"] = ~transports.c.is_up


nodes = Table(
    "nodes",
    metadata,
    Column("key", LargeBinary(33), primary_key=True),
    # 64 bits, signed here and unsigned outside.
    Column("epoch", BigInteger, nullable=False),
    # JSON: [[kind, address], ...]
    Column("endpoints", String, nullable=False),
    Column("max_hops", Integer, nullable=False),
    Column("alive", Boolean(create_constraint=False), nullable=False),
    Column("last_seen_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    # Time online since `day` (UTC, days since the epoch) began; then it moves to node_days.
    Column("day", Integer, nullable=False, server_default=text("0")),
    Column("online_ms", BigInteger, nullable=False, server_default=text("0")),
)
Index("ix_nodes_leases", nodes.c.lease_until_ms)

node_days = Table(
    "node_days",
    metadata,
    Column("key", LargeBinary(33), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("online_ms", BigInteger, nullable=False),
)
Index("ix_node_days_day", node_days.c.day)

changes = Table(
    "changes",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("cause", SmallInteger, nullable=False),
    # 16 bytes: a transport; 33 bytes: a node.
    Column("subject", LargeBinary(33), nullable=False),
    # A transport: whether it is up; a node: whether it lives.
    Column("is_up", Boolean(create_constraint=False), nullable=False),
)
Index("ix_changes_subject", changes.c.subject, changes.c.revision)
Index("ix_changes_at", changes.c.at_ms)

nonces = Table(
    "nonces",
    metadata,
    Column("key", LargeBinary(33), primary_key=True),
    Column("next", BigInteger, nullable=False),
)

used_calls = Table(
    "used_calls",
    metadata,
    Column("key", LargeBinary(33), primary_key=True),
    Column("nonce", LargeBinary(16), primary_key=True),
    Column("until_ms", BigInteger, nullable=False),
)
Index("ix_used_calls_until", used_calls.c.until_ms)

counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


class now_ms(FunctionElement[int]):  # noqa: N801 - reads like the SQL function it is
    """The database's clock in epoch milliseconds."""

    type = BigInteger()
    inherit_cache = True


NOW_MS = {
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)",
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS integer)",
}


@compiles(now_ms)
def _now(_element: now_ms, compiler: SQLCompiler, **_: Any) -> str:
    return NOW_MS[compiler.dialect.name]
