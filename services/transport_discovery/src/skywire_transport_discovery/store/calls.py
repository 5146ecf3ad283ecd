"""What makes a signed request good once: used calls (gRPC) and nonces (HTTP)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.rpc.identity import Reason, Refused
from sqlalchemy import Connection, bindparam, select, update

from skywire_transport_discovery.store.many import insert
from skywire_transport_discovery.store.nodes import upsert
from skywire_transport_discovery.store.schema import counters, nonces, used_calls

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Call(NamedTuple):
    """A signed call: who, its 16 random bytes, until when it would be accepted (epoch ms)."""

    key: bytes
    nonce: bytes
    until_ms: int


_CALL = ("key", "nonce", "until_ms")


class NotAllFirst(Exception):
    """Some of the calls came before."""


def once(
    db: Connection,
    asked: Sequence[tuple[Call, T]],
    work: Callable[Concatenate[Connection, Sequence[T], P], Sequence[R | Failure]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[R | Failure]:
    """Do the work for all whose call is the first, and remember the calls, in one transaction.

    Raises NotAllFirst, and so undoes the transaction, if some were not: `once_each` tells them apart.
    """
    use_all(db, [call for call, _ in asked])
    return list(work(db, [item for _, item in asked], *args, **kwargs))


def once_each(
    db: Connection,
    asked: Sequence[tuple[Call, T]],
    work: Callable[Concatenate[Connection, Sequence[T], P], Sequence[R | Failure]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> list[R | Failure]:
    """Do what `once` does, and refuse those whose call came before."""
    first = first_uses(db, [call for call, _ in asked])
    done = iter(work(db, [item for (_, item), is_first in zip(asked, first, strict=True) if is_first], *args, **kwargs))
    return [next(done) if is_first else _replayed() for is_first in first]


def _replayed() -> Failure:
    return Refused(Reason.REPLAYED, ErrorCode.REPLAYED, "this call came before, to another replica; each is good once")


def use_all(db: Connection, calls: Sequence[Call]) -> None:
    """Remember calls that nobody used before; raises NotAllFirst if some were."""
    # Sorted, so that two replicas never wait for each other's rows crosswise.
    rows = [(bytes(key), nonce, until) for key, nonce, until in sorted(calls)]
    if insert(db, used_calls, _CALL, rows, " ON CONFLICT (key, nonce) DO NOTHING") != len(rows):
        raise NotAllFirst


def first_uses(db: Connection, calls: Sequence[Call]) -> list[bool]:
    """Say of each call whether nobody used it before, and remember it: the insert decides, so of many one is first."""
    rows = {(call.key, call.nonce): call for call in calls}
    statement = upsert(db, used_calls).on_conflict_do_nothing().returning(used_calls.c.key, used_calls.c.nonce)
    values = [{"key": bytes(key), "nonce": nonce, "until_ms": rows[key, nonce].until_ms} for key, nonce in sorted(rows)]
    fresh = {(row.key, row.nonce) for row in db.execute(statement, values)}
    answers = []
    for call in calls:
        answers.append((call.key, call.nonce) in fresh)
        fresh.discard((call.key, call.nonce))
    return answers


# A nonce can never be forgotten: the key's first requests would be good again. About 100 bytes each.
MAX_NONCES = 1_000_000
_COUNT_KEY = (
    update(counters)
    .where(counters.c.name == "nonces", counters.c.value < bindparam("most"))
    .values(value=counters.c.value + 1)
    .returning(counters.c.value)
)
_NEXT = select(nonces.c.next).where(nonces.c.key == bindparam("key"))


def next_nonce(db: Connection, key: bytes) -> int:
    """Return the nonce that the key's next signed request must bear; 0 for a new key."""
    return int(db.scalar(_NEXT, {"key": bytes(key)}) or 0)


def take_nonce(db: Connection, key: bytes, given: int) -> bool:
    """Move the key's nonce on if `given` is the next one; one statement, so that of many with the same one wins.

    Raises Failure LIMIT_REACHED for a new key if there are MAX_NONCES.
    """
    if given == 0:
        put = upsert(db, nonces).values(key=bytes(key), next=1).on_conflict_do_nothing().returning(nonces.c.next)
        if db.execute(put).first() is None:
            return False
        if db.execute(_COUNT_KEY, {"most": MAX_NONCES}).first() is None:
            raise Failure(
                ErrorCode.LIMIT_REACHED,
                f"{MAX_NONCES} keys have signed HTTP requests here, and none is forgotten; gRPC takes any key",
                FailureFields(limit="nonces"),
            )
        return True
    moved = (
        update(nonces)
        .where(nonces.c.key == bytes(key), nonces.c.next == given)
        .values(next=given + 1)
        .returning(nonces.c.next)
    )
    return db.execute(moved).first() is not None
