"""Transports: registered once, up or down by what their edges say, read in pages."""

from __future__ import annotations

import asyncio

import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.store import nodes, transports
from skywire_transport_discovery.store.changes import Cause
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.transports import Said
from unit.discovery.store.written import SECRETS, entry, heartbeat, is_up, key_of, log, say


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
