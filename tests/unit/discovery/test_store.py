"""The store on both databases: what callers notice, at once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from postgres_server import PostgresServer
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_transport_discovery.standing import HOLD_MS, LEASE_MS, Endpoint, Heartbeat, Node
from skywire_transport_discovery.store import calls, changes, migrate, nodes, schema, transports
from skywire_transport_discovery.store.calls import Call, NotAllFirst
from skywire_transport_discovery.store.changes import Cause
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.many import insert
from skywire_transport_discovery.store.nodes import DAY_MS
from skywire_transport_discovery.store.transports import Said
from sqlalchemy import Connection, inspect, select, text, update

SECRETS = [SecretKey.generate() for _ in range(6)]


def entry(first: int = 0, second: int = 1, kind: str = "tcp") -> SignedEntry:
    a, b = SECRETS[first], SECRETS[second]
    return SignedEntry.unsigned(Entry.between(a.public, b.public, kind, True)).sign(a).sign(b)


def key_of(signed: SignedEntry) -> bytes:
    return signed.entry.transport_id.bytes


def heartbeat(node: int, epoch: int | None = None, **more: object) -> Heartbeat:
    known = {"endpoints": (Endpoint("tcp", "198.51.100.7:7777"),), "max_hops": 0} | more
    return Heartbeat(SECRETS[node].public, random.randrange(1 << 64) if epoch is None else epoch, **known)  # type: ignore[arg-type]


async def say(database: Database, node: int, signed: SignedEntry, up: bool) -> transports.Spoken:
    return (await database.write(transports.say, [Said(SECRETS[node].public, [(key_of(signed), up)])]))[0]


async def is_up(database: Database, signed: SignedEntry) -> bool:
    return (await database.read(transports.by_id, [key_of(signed)]))[key_of(signed)].is_up


async def log(database: Database) -> list[tuple[Cause, bytes, bool]]:
    logged = await database.read(changes.since, 1)
    assert [one.revision for one in logged] == list(range(1, len(logged) + 1)), "no gap, in order"
    return [tuple(one.change) for one in logged]  # type: ignore[misc]


async def age(database: Database, node: int, by_ms: int) -> None:
    """Let a node's last heartbeat lie further back."""

    def older(db: object) -> None:
        db.execute(  # type: ignore[attr-defined]
            update(schema.nodes)
            .where(schema.nodes.c.key == bytes(SECRETS[node].public))
            .values(
                last_seen_ms=schema.nodes.c.last_seen_ms - by_ms, lease_until_ms=schema.nodes.c.lease_until_ms - by_ms
            )
        )

    await database.write(older)


async def test_registering_again_is_success_and_keeps_the_first_time(database: Database) -> None:
    [first] = await database.write(transports.register, [[entry(), entry(2, 3)]])
    [again] = await database.write(transports.register, [[entry(2, 3)]])
    assert not isinstance(first, Failure) and not isinstance(again, Failure)
    assert again[0].registered == first[1].registered > 1_700_000_000
    assert len(await log(database)) == 2


async def test_registering_100_times_at_once_leaves_one_row(database: Database) -> None:
    answers = await asyncio.gather(*(database.write(transports.register, [[entry()]]) for _ in range(100)))
    assert {answer[0][0].registered for answer in answers if not isinstance(answer[0], Failure)} == {
        answers[0][0][0].registered  # type: ignore[index]
    }
    assert len(await log(database)) == 1


async def test_another_transport_under_a_registered_id_is_a_conflict(database: Database) -> None:
    first, fresh = entry(), entry(2, 3)
    other = entry(4, 5)._replace(entry=entry(4, 5).entry._replace(transport_id=first.entry.transport_id))
    [_] = await database.write(transports.register, [[first]])
    for batches in ([[fresh, other]], [[fresh, other, first]]):
        [answer] = await database.write(transports.register, batches)
        assert isinstance(answer, Failure)
        assert answer.code is ErrorCode.CONFLICT
        assert answer.fields.transport_id == key_of(first)
    # Of two in one round the first stays.
    second = entry(2, 3)._replace(entry=entry(2, 3).entry._replace(kind="another"))
    answers = await database.write(transports.register, [[fresh], [second], [other]])
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, True]
    found = await database.read(transports.by_id, [key_of(first), key_of(fresh)])
    assert {one.signed.entry for one in found.values()} == {first.entry, fresh.entry}


async def test_what_a_transport_looks_like(database: Database) -> None:
    signed = entry()
    await database.write(transports.register, [[signed]])
    [found] = (await database.read(transports.by_id, [key_of(signed)])).values()
    assert found.signed == signed._replace(registered=found.signed.registered)
    assert not found.is_up
    assert [tuple(state) for state in found.states] == [(False, False, 0, True)] * 2
    for edge in signed.entry.edges:
        assert (await database.read(transports.by_edge, [edge]))[edge] == [found]
        assert await database.read(transports.is_edge, edge)
    assert not await database.read(transports.is_edge, SECRETS[5].public)


@pytest.mark.parametrize(
    ("said", "up"),
    [
        ([], False),
        ([(0, True)], True),
        ([(1, True)], True),
        ([(0, False)], False),
        ([(0, True), (1, True)], True),
        ([(0, True), (1, False)], False),
        ([(0, False), (1, False)], False),
        ([(0, True), (1, False), (1, True)], True),
    ],
)
async def test_statuses_count_alone_or_agree(database: Database, said: list[tuple[int, bool]], up: bool) -> None:
    signed = entry()
    await database.write(transports.register, [[signed]])
    for node, word in said:
        await say(database, node, signed, word)
    assert await is_up(database, signed) == up


async def test_only_what_others_can_see_is_logged(database: Database) -> None:
    signed = entry()
    await database.write(transports.register, [[signed]])
    for _ in range(3):
        await say(database, 0, signed, True)
    assert await log(database) == [
        (Cause.REGISTERED, key_of(signed), False),
        (Cause.STATUS, key_of(signed), True),
    ]


async def test_statuses_are_all_or_nothing(database: Database) -> None:
    known, strangers = entry(), entry(2, 3)
    await database.write(transports.register, [[known, strangers]])
    me = SECRETS[0].public
    answers = await database.write(
        transports.say,
        [
            Said(me, [(key_of(known), True), (bytes(16), True)]),
            Said(me, [(key_of(known), True), (key_of(strangers), True)]),
        ],
    )
    assert [answer.code for answer in answers if isinstance(answer, Failure)] == [
        ErrorCode.UNKNOWN_TRANSPORT,
        ErrorCode.PERMISSION_DENIED,
    ]
    assert not await is_up(database, known)


async def test_transports_per_node_is_bounded(database: Database) -> None:
    entries = [entry(0, other) for other in range(1, 5)]
    answers = await database.write(transports.register, [entries[:2], entries[2:], [entries[0]], [entries[2]]], 3)
    assert isinstance(answers[1], Failure)
    assert answers[1].fields.limit == "transports_per_node"
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, False]
    [refused] = await database.write(transports.register, [[entries[3]]], 3)
    assert isinstance(refused, Failure)


async def test_a_heartbeat_keeps_a_node_alive_and_is_not_logged(database: Database) -> None:
    beat = heartbeat(0)
    [node] = await database.write(nodes.beat, [beat])
    assert isinstance(node, Node)
    assert node.lease_until_ms == node.last_seen_ms + LEASE_MS
    await age(database, 0, 20_000)
    assert await database.write(nodes.renew_unchanged, [beat]) == {nodes.words_of(beat)}
    assert await database.write(nodes.renew_unchanged, [beat._replace(epoch=1), heartbeat(1)]) == set()
    found = (await database.read(nodes.by_key, [beat.key]))[beat.key]
    assert found[:5] == (beat.key, beat.epoch, beat.endpoints, 0, True)
    assert found.last_seen_ms >= node.last_seen_ms
    assert await log(database) == [(Cause.NODE, beat.key, True)]
    [(_, online_ms)] = await database.read(nodes.online_days, beat.key)
    assert 20_000 <= online_ms < 80_000


async def test_the_second_of_one_key_is_refused_until_the_first_is_silent(database: Database) -> None:
    first, second = heartbeat(0), heartbeat(0)
    await database.write(nodes.beat, [first])
    [refused] = await database.write(nodes.beat, [second])
    assert isinstance(refused, Failure)
    assert refused.code == ErrorCode.DUPLICATE_IDENTITY
    assert await database.write(nodes.renew_unchanged, [first]) == {nodes.words_of(first)}, "no flapping"
    await age(database, 0, HOLD_MS)
    [taken] = await database.write(nodes.beat, [second])
    assert isinstance(taken, Node)
    [refused] = await database.write(nodes.beat, [first])
    assert isinstance(refused, Failure)


async def test_a_restart_that_names_its_last_epoch_is_taken_at_once(database: Database) -> None:
    first = heartbeat(0)
    restarted = heartbeat(0, replaces=first.epoch)
    await database.write(nodes.beat, [first])
    [taken] = await database.write(nodes.beat, [restarted])
    assert isinstance(taken, Node)
    assert taken.epoch == restarted.epoch


async def test_a_node_that_dies_takes_its_transports_down_and_brings_them_back(database: Database) -> None:
    mine, theirs = entry(0, 1), entry(2, 3)
    beats = [heartbeat(node) for node in range(4)]
    await database.write(nodes.sweep)
    await database.write(transports.register, [[mine, theirs]])
    await database.write(nodes.beat, beats)
    for node, signed in ((0, mine), (1, mine), (2, theirs)):
        await say(database, node, signed, True)
    await age(database, 1, LEASE_MS + 1)
    assert await database.read(nodes.any_expired)
    before = len(await log(database))
    assert await database.write(nodes.sweep) == 1
    assert not await is_up(database, mine)
    assert await is_up(database, theirs)
    assert not await database.read(nodes.any_expired)
    [found] = (await database.read(transports.by_id, [key_of(mine)])).values()
    assert [state.alive for state in found.states].count(False) == 1
    assert (await log(database))[before:] == [
        (Cause.LEASE, beats[1].key, False),
        (Cause.LEASE, key_of(mine), False),
    ]
    await database.write(nodes.beat, [beats[1]])
    assert await is_up(database, mine)


async def test_leases_ended_and_days_closed_at_once_are_bounded(database: Database) -> None:
    def make(db: Connection) -> None:
        # Nodes that were heard of yesterday: keys need be none for that.
        keys = (number.to_bytes(33) for number in range(nodes.MAX_SWEEP + 1))
        rows = [(key, 1, "[]", 0, True, now - DAY_MS, now - DAY_MS, now // DAY_MS - 1, 5) for key in keys]
        columns = (
            "key",
            "epoch",
            "endpoints",
            "max_hops",
            "alive",
            "last_seen_ms",
            "lease_until_ms",
            "day",
            "online_ms",
        )
        insert(db, schema.nodes, columns, rows)

    now = await database.read(changes.clock)
    await database.write(nodes.sweep)
    await database.write(make)
    for work in (nodes.sweep, nodes.close_days):
        assert [await database.write(work) for _ in range(3)] == [nodes.MAX_SWEEP, 1, 0]


async def test_a_node_that_stops_well_is_down_at_once(database: Database) -> None:
    signed, beat = entry(), heartbeat(0)
    await database.write(transports.register, [[signed]])
    await database.write(nodes.beat, [beat])
    await say(database, 0, signed, True)
    await database.write(nodes.beat, [beat._replace(stopping=True)])
    assert not await is_up(database, signed)
    successor = heartbeat(0)
    [taken] = await database.write(nodes.beat, [successor])
    assert isinstance(taken, Node), "nobody holds the key any more"
    assert await is_up(database, signed)


async def test_leases_do_not_run_while_nobody_sweeps_or_the_clock_jumps(database: Database) -> None:
    beat = heartbeat(0)
    await database.write(nodes.sweep)
    await database.write(nodes.beat, [beat])
    hour = 3_600_000

    def jump(db: object, by: int) -> None:
        # The clock is the database's; moving all that was written is the same as moving it.
        swept = schema.counters.c.name == "swept_ms"
        db.execute(update(schema.counters).where(swept).values(value=schema.counters.c.value - by))  # type: ignore[attr-defined]

    for by in (hour, -hour):
        await age(database, 0, by)
        await database.write(jump, by)
        assert await database.read(nodes.any_expired)
        assert await database.write(nodes.sweep) == 0
        found = (await database.read(nodes.by_key, [beat.key]))[beat.key]
        now = await database.read(changes.clock)
        assert found.alive
        assert abs(found.lease_until_ms - now - LEASE_MS) < 10_000


async def test_of_64_with_one_nonce_one_wins(database: Database) -> None:
    key = SECRETS[0].public
    for nonce in range(3):
        won = await asyncio.gather(*(database.write(calls.take_nonce, key, nonce) for _ in range(64)))
        assert won.count(True) == 1
        assert await database.read(calls.next_nonce, key) == nonce + 1
    assert not await database.write(calls.take_nonce, key, 7)
    assert not await database.write(calls.take_nonce, SECRETS[1].public, 7)
    assert await database.read(calls.next_nonce, SECRETS[1].public) == 0


async def test_nonces_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_NONCES", 2)
    for node in (0, 1):
        assert await database.write(calls.take_nonce, SECRETS[node].public, 0)
        assert not await database.write(calls.take_nonce, SECRETS[node].public, 0)
    for _ in range(2):
        with pytest.raises(Failure) as failure:
            await database.write(calls.take_nonce, SECRETS[2].public, 0)
        assert failure.value.fields.limit == "nonces"
        assert await database.read(calls.next_nonce, SECRETS[2].public) == 0
    assert await database.write(calls.take_nonce, SECRETS[0].public, 1), "who is known goes on"


async def test_each_call_is_used_once(database: Database) -> None:
    asked = [Call(SECRETS[n % 2].public, bytes([n % 5]) * 16, 1) for n in range(20)]
    random.shuffle(asked)
    rounds = await asyncio.gather(*(database.write(calls.first_uses, asked) for _ in range(4)))
    assert sum(map(sum, rounds)) == 10
    assert not any(await database.write(calls.first_uses, asked))


async def test_what_a_call_does_and_that_it_was_used_are_one_transaction(database: Database) -> None:
    def work(db: Connection, items: Sequence[int]) -> list[int]:
        db.execute(schema.counters.insert(), [{"name": f"item{item}", "value": item} for item in items])
        if 9 in items:
            raise ZeroDivisionError
        return list(items)

    asked = [(Call(SECRETS[item].public, bytes(16), 1), item) for item in range(4)]
    assert await database.write(calls.once, asked[:2], work) == [0, 1]
    with pytest.raises(NotAllFirst):
        await database.write(calls.once, asked[1:3], work)
    with pytest.raises(ZeroDivisionError):
        await database.write(calls.once, [(asked[3][0], 9)], work)
    done = await database.write(calls.once_each, [*asked, asked[3]], work)
    assert [answer.code if isinstance(answer, Failure) else answer for answer in done] == [
        ErrorCode.REPLAYED,
        ErrorCode.REPLAYED,
        2,
        3,
        ErrorCode.REPLAYED,
    ]
    written = await database.read(lambda db: db.scalars(select(schema.counters.c.name)).all())
    assert {name for name in written if name.startswith("item")} == {"item0", "item1", "item2", "item3"}


async def test_keys_above_63_bits_of_epoch(database: Database) -> None:
    for node, epoch in enumerate((0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)):
        await database.write(nodes.beat, [heartbeat(node, epoch)])
        key = SECRETS[node].public
        assert (await database.read(nodes.by_key, [key]))[key].epoch == epoch


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


async def test_pages_of_the_graph(database: Database) -> None:
    entries = [entry(0, other) for other in range(1, 6)]
    await database.write(transports.register, [entries])
    await database.write(nodes.beat, [heartbeat(0, max_hops=4), heartbeat(1)])
    for signed in entries[:3]:
        await say(database, 0, signed, True)
    links, after = [], b""
    while page := await database.read(transports.page_of_links, after, 2):
        links += page
        after = page[-1].id
    assert {tuple(link) for link in links} == {
        (key_of(signed), *map(bytes, signed.entry.edges)) for signed in entries[:3]
    }
    assert [tuple(row) for row in await database.read(nodes.page_of_limits, b"", 9)] == [(SECRETS[0].public, 4)]
    assert len(await database.read(transports.page, b"", 9)) == 5


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


async def test_migrations_lead_to_the_schema(empty: Database) -> None:
    def differences(db: object) -> list[object]:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        return list(compare_metadata(MigrationContext.configure(db), schema.metadata))  # type: ignore[arg-type]

    assert await empty.upgrade(migrate.newest()) == migrate.newest()
    assert await empty.read(differences) == []
    assert await empty.read(lambda db: sorted(inspect(db).get_table_names())) == sorted(
        ["alembic_version", *schema.metadata.tables]
    )
    await empty.read(lambda db: db.execute(select(schema.transports)).all())


def described(db: Connection) -> dict[str, object]:
    """Return all columns, keys and indexes of a database, and the rows that it begins with."""
    seen = inspect(db)

    def texts(things: list[Any]) -> list[dict[str, str]]:
        """Each as text, SQL expressions and types too."""
        return sorted(({k: str(v) for k, v in thing.items() if k != "dialect_options"} for thing in things), key=str)

    tables = {
        name: (texts(seen.get_columns(name)), seen.get_pk_constraint(name), texts(seen.get_indexes(name)))
        for name in seen.get_table_names()
    }
    partial = {
        index["name"]
        for name in seen.get_table_names()
        for index in seen.get_indexes(name)
        if f"{db.dialect.name}_where" in index.get("dialect_options", {})
    }
    counters = sorted(map(tuple, db.execute(select(schema.counters))))
    return tables | {"partial": partial, "counters": counters, "revision": migrate.current(db)}


async def test_a_new_database_is_what_the_migrations_lead_to(empty: Database) -> None:
    assert await empty.upgrade() == migrate.newest()
    made = await empty.read(described)
    await empty.upgrade()
    assert await empty.read(described) == made

    def clear(db: Connection) -> None:
        schema.metadata.drop_all(db)
        db.execute(text("DELETE FROM alembic_version"))

    await empty.write(clear)
    assert await empty.upgrade() == migrate.newest()
    migrated = await empty.read(described)
    assert made == migrated


def test_the_names_of_the_migrations_tell_the_newest_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.newest()
