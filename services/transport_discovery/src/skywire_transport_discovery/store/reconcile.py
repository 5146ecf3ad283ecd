"""Make the registry agree with a node's whole list of transports.

Nodes send it twice a minute and nearly always nothing differs: that is found out for many at once by reading, and only
what differs takes the row of the revision.
"""

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


class Own(NamedTuple):
    """A node's whole list: its transports with both signatures and whether each is up."""

    node: PublicKey
    listed: Sequence[tuple[SignedEntry, bool]]


class Reconciled(NamedTuple):
    """The node's transports in its order, those that it did not list, and how much was repaired."""

    own: list[Transport]
    unlisted: list[Transport]
    registered: int
    corrected: int


def agree(db: Connection, lists: Sequence[Own]) -> list[Reconciled | None]:
    """Answer each list that is what the registry has, to the signature; None for one that differs. Changes nothing."""
    there = transports.by_edge(db, (own.node for own in lists))
    return [_agreed(own, there[own.node]) for own in lists]


def _agreed(own: Own, there: Sequence[Transport]) -> Reconciled | None:
    rest = {transport.signed.entry.transport_id: transport for transport in there}
    found = []
    for signed, up in own.listed:
        transport = rest.pop(signed.entry.transport_id, None)
        if transport is None or transport.signed != signed._replace(registered=transport.signed.registered):
            return None
        if _word(transport, own.node) != (True, up):
            return None
        found.append(transport)
    if any(_word(transport, own.node) != (True, False) for transport in rest.values()):
        return None
    return Reconciled(found, list(rest.values()), 0, 0)


def reconcile(db: Connection, own: Own, per_node: int) -> Reconciled | Failure:
    """Register what is missing, note what the node says, and that what it does not list is down. Entries were checked.

    Failure LIMIT_REACHED or CONFLICT if not all can be registered; then nothing is changed.
    """
    ids = [signed.entry.transport_id.bytes for signed, _ in own.listed]
    known = set(transports.by_id(db, ids))
    [answer] = transports.register(db, [[signed for signed, _ in own.listed]], per_node)
    if isinstance(answer, Failure):
        return answer
    listed = set(ids)
    before = {found.signed.entry.transport_id.bytes: found for found in transports.by_edge(db, [own.node])[own.node]}
    words = list(zip(ids, (up for _, up in own.listed), strict=True))
    words += [(key, False) for key in before if key not in listed]
    [said] = transports.say(db, [Said(own.node, words)])
    if isinstance(said, Failure):
        raise said
    corrected = sum(_word(before[key], own.node) != (True, up) for key, up in words)
    return Reconciled(list(said[: len(ids)]), list(said[len(ids) :]), len(listed - known), corrected)


def _word(transport: Transport, node: PublicKey) -> tuple[bool, bool]:
    state = transport.states[transport.signed.entry.side(node)]
    return state.submitted, state.is_up
