"""The other yardstick: an insert per transaction, by the bare drivers: `python -m bench.discovery.bare_sql S [DSN]`."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

import aiosqlite
import psycopg

CONNECTIONS = 16


async def with_psycopg(dsn: str, seconds: float) -> float:
    """Return inserts a second over CONNECTIONS connections, a transaction each."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        await admin.execute("CREATE TABLE IF NOT EXISTS bare (key bytea PRIMARY KEY, value bigint)")
    end = time.perf_counter() + seconds

    async def one() -> int:
        done = 0
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            while time.perf_counter() < end:
                await connection.execute("INSERT INTO bare VALUES (%s, 1)", (secrets.token_bytes(16),))
                done += 1
        return done

    return float(sum(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))) / seconds


async def with_aiosqlite(path: Path, seconds: float) -> float:
    """Return inserts a second over one connection, a transaction each, in WAL mode."""
    done = 0
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("PRAGMA journal_mode=WAL")
        await connection.execute("PRAGMA synchronous=NORMAL")
        await connection.execute("CREATE TABLE bare (key blob PRIMARY KEY, value integer)")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await connection.execute("INSERT INTO bare VALUES (?, 1)", (secrets.token_bytes(16),))
            done += 1
    return done / seconds


async def main(seconds: float, dsn: str) -> dict[str, float]:
    """Measure the drivers that are there."""
    with tempfile.TemporaryDirectory() as directory:
        found = {"bare aiosqlite inserts": await with_aiosqlite(Path(directory) / "bare.db", seconds)}
    if dsn:
        found["bare psycopg inserts"] = await with_psycopg(dsn, seconds)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))))
