"""A node's whole list against the registry: what agrees is found by reading alone, what differs is mended."""

from __future__ import annotations

from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.store import changes, transports
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.reconcile import Own, Reconciled, agree, reconcile
from skywire_transport_discovery.store.transports import Said
from sqlalchemy import Connection

PER_NODE = 3
NODE, *OTHERS = (SecretKey.generate() for _ in range(6))
ENTRIES = [
    SignedEntry.unsigned(Entry.between(NODE.public, other.public, "tcp", True)).sign(NODE).sign(other)
    for other in OTHERS
]


def listed(*words: bool) -> Own:
    """The first entries, each with the node's word."""
    return Own(NODE.public, list(zip(ENTRIES, words, strict=False)))


def agree_one(db: Connection, own: Own) -> Reconciled | None:
    return agree(db, [own])[0]


async def mended(database: Database, own: Own) -> tuple[int, int, int]:
    """Reconcile; return how many were registered, corrected and unlisted."""
    done = await database.write(reconcile, own, PER_NODE)
    assert isinstance(done, Reconciled)
    assert [one.signed.entry for one in done.own] == [signed.entry for signed, _ in own.listed]
    return done.registered, done.corrected, len(done.unlisted)


async def test_a_list_that_differs_is_mended_and_then_agrees(database: Database) -> None:
    assert await database.read(agree_one, listed(True, False)) is None
    assert await mended(database, listed(True, False)) == (2, 2, 0)
    agreed = await database.read(agree_one, listed(True, False))
    assert agreed is not None
    assert [one.is_up for one in agreed.own] == [True, False]
    assert (agreed.unlisted, agreed.registered, agreed.corrected) == ([], 0, 0)
    for other in (listed(True, True), listed(True, False, True), listed()):
        assert await database.read(agree_one, other) is None
    assert await database.read(agree_one, listed(True)) is not None, "what is not listed is said to be down already"
    assert await mended(database, listed()) == (0, 1, 2)
    gone = await database.read(agree_one, listed())
    assert gone is not None
    assert [one.is_up for one in gone.unlisted] == [False, False]


async def test_what_agrees_is_read_for_many_and_changes_nothing(database: Database) -> None:
    await mended(database, listed(True, True))
    revision = await database.read(changes.revision)
    other = Own(OTHERS[0].public, [(ENTRIES[0], True)])
    answers = await database.read(agree, [listed(True, True), other, listed(True, True)])
    assert [answer is not None for answer in answers] == [True, False, True], "the other edge said nothing yet"
    assert await database.read(changes.revision) == revision


async def test_only_the_signatures_that_were_checked_agree(database: Database) -> None:
    await mended(database, listed(True))
    forged = ENTRIES[0]._replace(signatures=(b"\1" * 65, ENTRIES[0].signatures[1]))
    assert await database.read(agree_one, Own(NODE.public, [(forged, True)])) is None
    twice = Own(NODE.public, [(ENTRIES[0], True)] * 2)
    assert await database.read(agree_one, twice) is None
    assert await mended(database, twice) == (0, 0, 0)


async def test_a_list_that_cannot_be_registered_whole_changes_nothing(database: Database) -> None:
    await mended(database, listed(True, True, True))
    refused = await database.write(reconcile, listed(False, False, False, False), PER_NODE)
    assert isinstance(refused, Failure)
    assert (refused.code, refused.fields.limit) == (ErrorCode.LIMIT_REACHED, "transports_per_node")
    assert await database.read(agree_one, listed(True, True, True)) is not None


async def test_what_the_other_edge_says_is_not_the_nodes_to_correct(database: Database) -> None:
    await mended(database, listed(True))
    said = Said(OTHERS[0].public, [(ENTRIES[0].entry.transport_id.bytes, False)])
    await database.write(transports.say, [said])
    agreed = await database.read(agree_one, listed(True))
    assert agreed is not None
    assert not agreed.own[0].is_up
