"""The database itself: other encodings, a role that may not, a bug in a transaction."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from postgres_server import PostgresServer
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_transport_discovery.standing import Endpoint
from skywire_transport_discovery.store import calls, migrate, nodes, transports
from skywire_transport_discovery.store.database import Database
from unit.discovery.store.written import SECRETS, entry, heartbeat, is_up


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_postgresql_with_another_encoding_serves(postgres: PostgresServer, encoding: str) -> None:
    with postgres.database(encoding=encoding) as name:
        database = Database(postgres.url(name))
        try:
            assert await database.upgrade() == migrate.newest()
            [_] = await database.write(transports.register, [[entry()]])
            endpoint = Endpoint("tcp", "bücher-名.example:7777")
            beats = [heartbeat(0, 7, endpoints=(endpoint,))]
            for _ in range(2):
                await database.write(nodes.beat, beats)
            assert await database.write(nodes.renew_each, beats) == [True]
            found = await database.read(nodes.by_key, [SECRETS[0].public])
            assert found[SECRETS[0].public].endpoints == (endpoint,)
            assert not await is_up(database, entry())
        finally:
            await database.close()


async def test_a_role_that_may_not_is_told_so(postgres: PostgresServer) -> None:
    """PostgreSQL 15 lets nobody but the owner make tables: the most usual mistake of who sets one up."""
    with postgres.database() as name:
        role = f"r{name}"
        with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {role} LOGIN")
        database = Database(postgres.url(name).replace("postgres@", f"{role}@"))
        try:
            with pytest.raises(Failure, match="permission denied for schema public") as failure:
                await database.upgrade()
            assert failure.value.code is ErrorCode.UNAVAILABLE
        finally:
            await database.close()
            with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as admin:
                admin.execute(f"DROP ROLE {role}")


async def test_a_bug_is_loud_and_leaks_no_connection(database: Database) -> None:
    def bug(db: object) -> None:
        raise ZeroDivisionError

    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            await database.write(bug)
    assert database.pool_counts()[0] == 0
    key = PublicKey(SECRETS[0].public)
    tasks = [asyncio.create_task(database.write(calls.take_nonce, key, n)) for n in range(50)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await database.write(calls.take_nonce, key, 99)
    assert database.pool_counts()[0] <= 50  # those that were begun end by themselves
    await asyncio.gather(*database.running())
    assert database.pool_counts()[0] == 0
