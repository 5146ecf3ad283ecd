"""How many transports a node has where nobody said a number."""

from __future__ import annotations

import pytest
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import Failure
from skywire_common.keys import PublicKey
from skywire_transport_discovery.config import Limits
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.store import transports
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.store.transports import MAX_TRANSPORTS_PER_NODE
from unit.discovery.store.written import SECRETS


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_transports_per_node_is_bounded_by_default(database: Database) -> None:
    me = SECRETS[0].public
    others = (PublicKey(b"\x02" + number.to_bytes(32)) for number in range(MAX_TRANSPORTS_PER_NODE + 1))
    first, *most = [SignedEntry.unsigned(Entry.between(me, other, "tcp", True)) for other in others]
    [added, refused] = await database.write(transports.register, [most, [first]])
    assert not isinstance(added, Failure) and len(added) == MAX_TRANSPORTS_PER_NODE
    assert isinstance(refused, Failure) and refused.fields.limit == "transports_per_node"
    registry = Registry(database, Feed(database))
    assert registry.per_node == Limits().transports_per_node == MAX_TRANSPORTS_PER_NODE
    await registry.close()
