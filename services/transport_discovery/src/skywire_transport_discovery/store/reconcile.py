"""Make the registry agree with one node's whole list, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from skywire_common.entries import SignedEntry
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from sqlalchemy import Connection

from skywire_transport_discovery.standing import Transport
from skywire_transport_discovery.store import transports
from skywire_transport_discovery.store.transports import Said


class Reconciled(NamedTuple):
    """The node's transports in its order, those that it did not list, and how much was repaired."""

    own: list[Transport]
    unlisted: list[Transport]
    registered: int
    corrected: int


Lists = Sequence[Sequence[tuple[SignedEntry, bool]]]


def reconcile(db: Connection, lists: Lists, node: PublicKey, per_node: int) -> list[Reconciled | Failure]:
    """Register what is missing, note what the node says, and that what it does not list is down; each list in turn.

    Failure LIMIT_REACHED if the node would have too many transports; then nothing is changed.
    """
    return [_reconcile(db, own, node, per_node) for own in lists]


def _reconcile(
    db: Connection, own: Sequence[tuple[SignedEntry, bool]], node: PublicKey, per_node: int
) -> Reconciled | Failure:
    ids = [signed.entry.transport_id.bytes for signed, _ in own]
    known = set(transports.by_id(db, ids))
    [answer] = transports.register(db, [[signed for signed, _ in own]], per_node)
    if isinstance(answer, Failure):
        return answer
    listed = set(ids)
    before = {found.signed.entry.transport_id.bytes: found for found in transports.by_edge(db, [node])[node]}
    words = list(zip(ids, (up for _, up in own), strict=True))
    words += [(key, False) for key in before if key not in listed]
    [said] = transports.say(db, [Said(node, words)])
    if isinstance(said, Failure):
        raise said
    corrected = sum(_word(before[key], node) != (True, up) for key, up in words)
    return Reconciled(list(said[: len(ids)]), list(said[len(ids) :]), len(listed - known), corrected)


def _word(transport: Transport, node: PublicKey) -> tuple[bool, bool]:
    state = transport.states[transport.signed.entry.side(node)]
    return state.submitted, state.is_up
