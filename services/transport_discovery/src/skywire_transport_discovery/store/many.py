"""One statement for many rows.

With every row of an `executemany` SQLite's driver lets other threads run, and waits until the interpreter is its own
again: up to 5 ms a row where the loop is busy. PostgreSQL plans once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from sqlalchemy import Connection, Table
from sqlalchemy.sql.type_api import TypeEngine

# Rows of one statement: SQLite takes 32,766 values, PostgreSQL 65,535.
MAX_ROWS = 1024
# Texts of statements that are kept: one per kind and number of rows.
_KEPT = 2048

Row = Sequence[object]


def insert(db: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row], rest: str = "") -> int:
    """Insert rows, each with a value for every column; `rest` ends the statement; return how many were inserted."""
    done = 0
    into = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608 - names of the schema's own
    for start in range(0, len(rows), MAX_ROWS):
        part = rows[start : start + MAX_ROWS]
        statement = into + _marks(_mark(db), len(columns), len(part)) + rest
        done += db.exec_driver_sql(statement, tuple(chain.from_iterable(part))).rowcount
    return done


def values(db: Connection, types: Sequence[TypeEngine[object]], count: int) -> str:
    """Return "VALUES (?, …), …" for `count` rows, as a table of its own: its columns are column1, column2, …"""
    if db.dialect.name != "postgresql":
        return f"VALUES {_marks(_mark(db), len(types), count)}"
    # What stands alone has no type there unless it is told.
    first = ", ".join(f"CAST(%s AS {kind.compile(db.dialect)})" for kind in types)
    others = _marks(_mark(db), len(types), count - 1)
    return f"VALUES ({first}){', ' if others else ''}{others}"


def _mark(db: Connection) -> str:
    return "%s" if db.dialect.name == "postgresql" else "?"


@lru_cache(_KEPT)
def _marks(mark: str, columns: int, rows: int) -> str:
    row = f"({', '.join([mark] * columns)})"
    return ", ".join([row] * rows)
