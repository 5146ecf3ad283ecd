"""Calls are used once: nonces, and work that is one transaction with its call."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.store import calls, schema
from skywire_transport_discovery.store.calls import Call, NotAllFirst
from skywire_transport_discovery.store.database import Database
from sqlalchemy import Connection, select
from unit.discovery.store.written import SECRETS


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
