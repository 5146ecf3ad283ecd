"""The feed, the ring and the quotas: graphs as the log says, watchers bounded, keys forgotten."""

from __future__ import annotations

import asyncio
import random

import pytest
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from skywire_transport_discovery import feed as feeding
from skywire_transport_discovery import limits, watching
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.standing import Heartbeat
from skywire_transport_discovery.store import calls, changes, nodes, prune, schema, summary, transports
from skywire_transport_discovery.store.calls import Call
from skywire_transport_discovery.store.changes import Cause
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.transports import Said
from skywire_transport_discovery.watching import Event, Ring
from sqlalchemy import Connection, delete, func, select, update

SECRETS = [SecretKey.generate() for _ in range(5)]


def entry(first: int, second: int, kind: str = "tcp", public: bool = True) -> SignedEntry:
    a, b = SECRETS[first], SECRETS[second]
    return SignedEntry.unsigned(Entry.between(a.public, b.public, kind, public)).sign(a).sign(b)


def key_of(signed: SignedEntry) -> bytes:
    return signed.entry.transport_id.bytes


async def say(database: Database, node: int, signed: SignedEntry, up: bool) -> None:
    await database.write(transports.say, [Said(SECRETS[node].public, [(key_of(signed), up)])])


def links(feed: Feed) -> set[bytes]:
    return {feed.graph.id_of(link) for node in feed.graph.links for link in node}


@pytest.mark.parametrize("watchers", [0, 1])
async def test_a_feed_that_follows_is_as_one_that_loads_anew(database: Database, watchers: int) -> None:
    draw = random.Random(1)
    entries = [entry(a, b, kind) for a in range(5) for b in range(a) for kind in ("tcp", "stcp")]
    follower = Feed(database)
    await follower.load()
    follower.ring.watchers = watchers
    for round_ in range(30):
        signed = draw.choice(entries)
        await database.write(transports.register, [[signed]])
        spoke = draw.choice(signed.entry.edges)
        edge = next(n for n, secret in enumerate(SECRETS) if secret.public == spoke)
        await say(database, edge, signed, draw.random() < 0.7)
        if round_ % 7 == 0:
            node = draw.randrange(5)
            beat = Heartbeat(SECRETS[node].public, 1, (), draw.randrange(3), stopping=draw.random() < 0.3)
            await database.write(nodes.beat, [beat])
        if round_ % 5 == 0:
            await follower.poll()
    await follower.poll()
    fresh = Feed(database)
    await fresh.load()
    assert links(follower) == links(fresh)
    assert follower.ring.revision == fresh.ring.revision
    assert {follower.graph.key_of(n): most for n, most in follower.graph.limits.items()} == {
        fresh.graph.key_of(n): most for n, most in fresh.graph.limits.items()
    }
    assert follower.graph.node_count == fresh.graph.node_count


async def test_what_happened_while_nobody_watched_is_told_from_the_log(database: Database) -> None:
    feed = Feed(database)
    await feed.load()
    first, second = entry(0, 1), entry(0, 2)
    await database.write(transports.register, [[first, second]])
    await feed.poll()
    left = feed.ring.revision
    for up in (True, False, True):
        await say(database, 0, first, up)
    await say(database, 0, second, True)
    await feed.poll()
    assert feed.ring.after(left) is None
    await say(database, 0, second, False)  # the feed does not know yet
    missed = await feed.catch_up(left)
    assert missed is not None
    events, reached = missed
    assert [event.transport_id for event in events] == [key_of(first), key_of(second)]
    assert [event.revision for event in events] == [reached - 1, reached]
    feed.ring.watchers = 1
    await feed.poll()
    further = feed.ring.after(reached)
    assert further is not None
    assert [(event.transport_id, event.transport and event.transport.is_up) for event in further] == [
        (key_of(second), False)
    ]
    assert await feed.catch_up(10**6) is None
    await database.write(lambda db: db.execute(delete(schema.changes).where(schema.changes.c.revision == left)))
    assert await feed.catch_up(left) is None, "the log does not go on from there"


async def test_a_watcher_that_comes_while_the_log_is_applied_misses_nothing(database: Database) -> None:
    feed = Feed(database)
    await feed.load()
    signed = entry(0, 1)
    await database.write(transports.register, [[signed]])
    began = feed.ring.revision
    polling = asyncio.create_task(feed.poll())
    while not database.running():
        await asyncio.sleep(0)
    feed.ring.watchers = 1
    await polling
    events = feed.ring.after(began)
    assert events is not None
    assert [event.transport_id for event in events] == [key_of(signed)]


async def test_private_transports_are_not_in_the_graph(database: Database) -> None:
    private, public = entry(0, 1, public=False), entry(0, 1)
    feed = Feed(database)
    await feed.load()
    await database.write(transports.register, [[private, public]])
    for signed in (private, public):
        await say(database, 0, signed, True)
    await feed.poll()
    fresh = Feed(database)
    await fresh.load()
    assert links(feed) == links(fresh) == {key_of(public)}


@pytest.mark.parametrize("harm", ["back", "other", "pruned"])
async def test_a_log_that_does_not_go_on_is_read_anew(database: Database, harm: str) -> None:
    feed = Feed(database)
    signed = entry(0, 1)
    await database.write(transports.register, [[signed]])
    await say(database, 0, signed, True)
    await feed.load()
    generation = feed.ring.generation

    def restored(db: object) -> None:
        run = db.execute  # type: ignore[attr-defined]
        if harm == "back":  # from before the last change
            run(delete(schema.changes).where(schema.changes.c.revision == 2))
            run(update(schema.counters).where(schema.counters.c.name == "revision").values(value=1))
        elif harm == "other":  # another change in the place of ours
            run(update(schema.changes).where(schema.changes.c.revision == 2).values(at_ms=7))
        else:  # further on, and what lies between is forgotten
            run(update(schema.changes).where(schema.changes.c.revision == 2).values(revision=9))
            run(update(schema.counters).where(schema.counters.c.name == "revision").values(value=9))
        run(update(schema.transports).values(is_up=False))

    await database.write(restored)
    await feed.poll()
    assert feed.ring.generation == generation + 1
    assert links(feed) == set()


async def test_a_pruned_log_is_no_reason_to_load_anew(database: Database) -> None:
    feed = Feed(database)
    signed = entry(0, 1)
    await database.write(transports.register, [[signed]])
    await feed.load()
    await database.write(lambda db: db.execute(delete(schema.changes)))
    generation = feed.ring.generation
    await feed.poll()
    await say(database, 0, signed, True)
    await feed.poll()
    assert (feed.ring.generation, links(feed)) == (generation, {key_of(signed)})


async def test_what_is_old_is_forgotten_in_batches(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "BATCH", 3)
    entries = [entry(0, 1, f"t{number}") for number in range(8)]
    await database.write(transports.register, [entries])
    await say(database, 0, entries[7], True)
    await database.write(nodes.beat, [Heartbeat(SECRETS[4].public, 1, (), 0, stopping=True)])
    feed = Feed(database)
    await feed.load()
    assert await database.write(prune.prune) == 0

    def age(db: object) -> None:
        old = prune.KEEP_DOWN_MS + 1000
        for table in (schema.transports.c.touched_ms, schema.nodes.c.lease_until_ms, schema.changes.c.at_ms):
            db.execute(update(table.table).values({table: table - old}))  # type: ignore[attr-defined]

    await database.write(age)
    rounds = []
    while gone := await database.write(prune.prune):
        rounds.append(gone)
    assert max(rounds) <= 3 * 3
    counts = await database.read(summary.counts)
    assert (counts.transports, counts.nodes) == (1, 0), "what is up stays"
    removed = [one.change for one in await database.read(changes.since, 1) if one.change.cause == Cause.PRUNED]
    assert {change.subject for change in removed} == {*map(key_of, entries[:7]), SECRETS[4].public}


async def test_a_network_of_constant_size_fills_a_database_of_constant_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days of nodes that call and restart, and of transports that come and go, each day the same."""
    monkeypatch.setattr(prune, "KEEP_DAYS", 3)
    monkeypatch.setattr(prune, "KEEP_DOWN_MS", 2 * nodes.DAY_MS)
    tables = schema.metadata.sorted_tables

    def a_day_passes(db: Connection) -> None:
        for table in tables:
            for column in table.c:
                if column.name.endswith("_ms") and column.name != "online_ms":
                    db.execute(update(table).values({column: column - nodes.DAY_MS}))
        db.execute(update(schema.nodes).values(day=schema.nodes.c.day - 1))
        for by in (-1_000, 999):  # one by one, two days of a node would be the same for a moment
            db.execute(update(schema.node_days).values(day=schema.node_days.c.day + by))

    def rows(db: Connection) -> int:
        return sum(db.scalar(select(func.count()).select_from(table)) or 0 for table in tables)

    sizes = []
    for day in range(12):
        now = await database.read(changes.clock)
        signed = entry(day % 3, 3, f"t{day}")
        used = [Call(SECRETS[0].public, day.to_bytes(15, "big") + bytes([n]), now) for n in range(20)]
        await database.write(calls.use_all, used)
        await database.write(transports.register, [[signed]])
        for up in (True, False, True, False):
            await say(database, day % 3, signed, up)
        await database.write(nodes.beat, [Heartbeat(secret.public, day, (), 0) for secret in SECRETS])
        await database.write(a_day_passes)
        while await database.write(prune.prune) or await database.write(nodes.close_days):
            pass
        sizes.append(await database.read(rows))
    assert len(set(sizes[6:])) == 1, sizes


async def test_used_calls_and_days_are_forgotten_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "BATCH", 3)
    now = await database.read(changes.clock)
    fresh = now - prune.KEEP_CALLS_MS + 60_000
    used = [Call(SECRETS[0].public, bytes([number]) * 16, 1 if number < 8 else fresh) for number in range(10)]
    await database.write(calls.use_all, used)

    def days(db: object) -> None:
        today = now // nodes.DAY_MS
        rows = [{"key": bytes(SECRETS[0].public), "day": today - day, "online_ms": 1} for day in range(40)]
        db.execute(schema.node_days.insert(), rows)  # type: ignore[attr-defined]

    await database.write(days)
    rounds = []
    while gone := await database.write(prune.prune):
        rounds.append(gone)
    assert max(rounds) <= 2 * 3
    assert await database.write(calls.first_uses, used) == [True] * 8 + [False] * 2, "within its window none is"
    assert len(await database.read(nodes.online_days, SECRETS[0].public)) == prune.KEEP_DAYS + 1


async def test_days_that_are_over_move_to_their_own_rows(database: Database) -> None:
    key = SECRETS[0].public
    await database.write(nodes.beat, [Heartbeat(key, 1, (), 0)])
    today = await database.read(changes.clock) // nodes.DAY_MS

    def yesterday(db: object) -> None:
        db.execute(update(schema.nodes).values(day=today - 1, online_ms=5_000_000))  # type: ignore[attr-defined]

    await database.write(yesterday)
    assert await database.write(nodes.close_days) == 1
    assert await database.write(nodes.close_days) == 0
    assert await database.read(nodes.online_days, key) == [(today - 1, 5_000_000), (today, 0)]


@pytest.mark.parametrize("start", ["0001", "0002", "0003"])
async def test_data_survive_every_migration(empty: Database, start: str) -> None:
    await empty.upgrade(start)
    signed = entry(0, 1)
    a, b = signed.entry.edges

    def write_old(db: object) -> None:
        touched = {"touched_ms": 7_000} if start != "0001" else {}
        row = {
            "id": key_of(signed), "edge_a": bytes(a), "edge_b": bytes(b), "kind": "tcp", "public": True,
            "signature_a": signed.signatures[0], "signature_b": signed.signatures[1], "registered_s": 7,
            "said_a": True, "said_a_s": 8, "said_b_s": 0, "is_up": True,
        } | touched  # fmt: skip
        node = {"key": bytes(a), "epoch": -5, "endpoints": '[["tcp","h:1"]]', "max_hops": 3, "alive": True,
                "last_seen_ms": 9_000, "lease_until_ms": 1 << 60}  # fmt: skip
        nonce = {"key": bytes(a), "next": 5}
        tables = [(schema.transports, row), (schema.nodes, node), (schema.nonces, nonce)]
        for table, values in tables[: 2 if start == "0001" else 3]:
            columns = [table.c[name] for name in values]
            from sqlalchemy import insert
            from sqlalchemy import table as plain

            target = plain(table.name, *(column._copy() for column in columns))
            db.execute(insert(target), [values])  # type: ignore[attr-defined]

    await empty.write(write_old)
    await empty.upgrade()
    [found] = (await empty.read(transports.by_id, [key_of(signed)])).values()
    assert found.signed == signed._replace(registered=7)
    assert (found.is_up, found.states[0]) == (True, (True, True, 8, True))
    node = (await empty.read(nodes.by_key, [a]))[a]
    assert (node.epoch, node.endpoints, node.max_hops) == ((1 << 64) - 5, (("tcp", "h:1"),), 3)
    await empty.write(nodes.renew_unchanged, [Heartbeat(a, (1 << 64) - 5, node.endpoints, 3)])
    assert await empty.write(calls.take_nonce, a, 0 if start == "0001" else 5)
    counted = await empty.read(lambda db: db.scalar(select(schema.counters.c.value).filter_by(name="nonces")))
    assert counted == 1


def test_the_ring_is_bounded_and_says_when_it_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RING", 4)
    ring = Ring()
    ring.reset(10)
    assert ring.after(10) == []
    assert ring.after(9) is None
    assert ring.after(11) is None
    events = [Event(revision, bytes([revision]) * 16, None) for revision in range(11, 19)]
    ring.publish(14, events[:4])
    assert ring.after(10) == events[:4]
    assert ring.after(12) == events[2:4]
    ring.publish(18, events[4:])
    assert ring.after(13) is None
    assert ring.after(14) == events[4:]
    ring.publish(20, [])
    assert ring.after(19) == []


def test_quotas_are_each_keys_own_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_KEYS", 3)
    now = random.random() * 1e6
    quotas = Quotas(60, lambda: now)
    key, other = SECRETS[0].public, SECRETS[1].public
    quotas.registrations(key, 60)
    with pytest.raises(Failure) as failure:
        quotas.registrations(key, 1)
    assert failure.value.fields.limit == "registrations_per_minute"
    quotas.registrations(other, 60)
    now += 30
    quotas.registrations(key, 29)
    with pytest.raises(Failure):
        quotas.registrations(key, 2)
    for number in range(10):
        quotas.registrations(PublicKey(b"\x02" + bytes([number]) * 32), 1)
    assert len(quotas) == 3


def write_log(db: Connection, count: int) -> None:
    subjects = (number.to_bytes(16) for number in range(count))
    changes.log(db, changes.lock(db), changes.clock(db), [changes.Change(Cause.STATUS, one, False) for one in subjects])


async def test_what_is_read_of_the_log_at_once_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Feed(database)
    await follower.load()
    await database.write(write_log, changes.MAX_READ + 5)
    assert len(await database.read(changes.since, 1)) == changes.MAX_READ
    await follower.poll()
    assert follower.ring.revision == changes.MAX_READ + 5
    # Who comes back to a replica that nobody watched is told of so many changes, or to start anew.
    monkeypatch.setattr(feeding, "MAX_CATCH_UP", 10)
    assert await follower.catch_up(follower.ring.revision - 9) is None
    caught = await follower.catch_up(follower.ring.revision - 8)
    assert caught is not None
    assert len(caught[0]) == 8
