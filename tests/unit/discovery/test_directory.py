"""Lists of nodes over gRPC, page by page."""

from __future__ import annotations

from typing import Any

import pytest
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.errors import DecodeError
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.rpc import directory
from skywire_transport_discovery.store import nodes
from skywire_transport_discovery.store.database import Database
from unit.discovery.store.written import SECRETS, heartbeat

NOBODY: Any = None  # whoever asks


async def test_a_page_is_bounded_whether_it_says_how_long_or_not(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MAX_LISTED", 2)
    await database.write(nodes.beat, [heartbeat(node) for node in range(5)])
    registry = Registry(database, Feed(database))
    asked = directory.NodeDirectory(registry)
    found, after = [], b""
    for size in (2, 2, 1):
        page = await asked.ListNodes(pb.ListNodesRequest(after=after), NOBODY)
        found += [node.public_key for node in page.nodes]
        assert (len(page.nodes), page.more) == (size, size == 2)
        after = found[-1]
    assert found == sorted(secret.public for secret in SECRETS[:5])
    assert len((await asked.ListNodes(pb.ListNodesRequest(count=2), NOBODY)).nodes) == 2
    with pytest.raises(DecodeError, match="count is 0 to 2"):
        await asked.ListNodes(pb.ListNodesRequest(count=3), NOBODY)
    await registry.close()
