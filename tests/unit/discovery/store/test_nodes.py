"""Nodes: heartbeats, who holds a key, leases and their end."""

from __future__ import annotations

from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.standing import HOLD_MS, LEASE_MS, Node
from skywire_transport_discovery.store import changes, nodes, schema, transports
from skywire_transport_discovery.store.changes import Cause
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.many import insert
from skywire_transport_discovery.store.nodes import DAY_MS
from sqlalchemy import Connection, update
from unit.discovery.store.written import SECRETS, age, entry, heartbeat, is_up, key_of, log, say


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


async def test_keys_above_63_bits_of_epoch(database: Database) -> None:
    for node, epoch in enumerate((0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)):
        await database.write(nodes.beat, [heartbeat(node, epoch)])
        key = SECRETS[node].public
        assert (await database.read(nodes.by_key, [key]))[key].epoch == epoch
