"""The graph that routes are searched in: nodes and the transports between them that are up.

Keys and transport ids are interned to small integers; a freed number is given out again. A node's links are one
dict `link number -> neighbour number`, so that adding, removing and walking cost nothing that grows with the graph.
About 300 bytes per transport at five transports a node.
"""

from __future__ import annotations

from array import array

from skywire_common.keys import PublicKey

NO_LIMIT = 1 << 30


class Graph:
    """Nodes and links by number. `find`, `key_of`, `id_of` translate; `links[n]` is what a search walks."""

    __slots__ = ("_ends", "_free_links", "_free_nodes", "_ids", "_keys", "_link_of", "_node_of", "limits", "links")

    def __init__(self) -> None:
        self.links: list[dict[int, int]] = []
        # Most hops of a route that a node takes part in; nodes without a limit of their own are not in it.
        self.limits: dict[int, int] = {}
        self._keys: list[PublicKey | None] = []
        self._node_of: dict[bytes, int] = {}
        self._ids: list[bytes] = []
        self._link_of: dict[bytes, int] = {}
        self._ends = array("I")
        self._free_nodes: list[int] = []
        self._free_links: list[int] = []

    @property
    def node_count(self) -> int:
        """Nodes that have a link or a limit."""
        return len(self._node_of)

    @property
    def link_count(self) -> int:
        """Transports that are up."""
        return len(self._link_of)

    def find(self, key: bytes) -> int | None:
        """Return the node's number; None if it has neither a link nor a limit."""
        return self._node_of.get(key)

    def find_link(self, transport: bytes) -> int | None:
        """Return the link's number; None if the transport is not up."""
        return self._link_of.get(transport)

    def key_of(self, node: int) -> PublicKey:
        """Return the key of a live node number."""
        key = self._keys[node]
        assert key is not None, "a freed number was kept"  # noqa: S101 - a broken invariant is a bug, not an input
        return key

    def id_of(self, link: int) -> bytes:
        """Return the transport id of a live link number, 16 bytes."""
        return self._ids[link]

    def connect(self, transport: bytes, edge_a: bytes, edge_b: bytes) -> bool:
        """Add a transport that is up; False if it is there already."""
        if transport in self._link_of:
            return False
        first, second = self._intern(edge_a), self._intern(edge_b)
        if self._free_links:
            link = self._free_links.pop()
            self._ids[link] = transport
            self._ends[2 * link], self._ends[2 * link + 1] = first, second
        else:
            link = len(self._ids)
            self._ids.append(transport)
            self._ends.extend((first, second))
        self._link_of[transport] = link
        self.links[first][link] = second
        self.links[second][link] = first
        return True

    def disconnect(self, transport: bytes) -> bool:
        """Take a transport out; False if it was not there."""
        link = self._link_of.pop(transport, None)
        if link is None:
            return False
        for end in self._ends[2 * link : 2 * link + 2]:
            del self.links[end][link]
            self._release(end)
        self._ids[link] = b""
        self._free_links.append(link)
        return True

    def limit(self, key: bytes, max_hops: int) -> None:
        """Set the most hops of a route that this node accepts; 0 takes its limit away."""
        if max_hops:
            self.limits[self._intern(key)] = max_hops
            return
        node = self._node_of.get(key)
        if node is not None:
            self.limits.pop(node, None)
            self._release(node)

    def _intern(self, key: bytes) -> int:
        node = self._node_of.get(key)
        if node is not None:
            return node
        owned = PublicKey(key)
        if self._free_nodes:
            node = self._free_nodes.pop()
            self._keys[node] = owned
        else:
            node = len(self._keys)
            self._keys.append(owned)
            self.links.append({})
        self._node_of[owned] = node
        return node

    def _release(self, node: int) -> None:
        if self.links[node] or node in self.limits:
            return
        key = self._keys[node]
        if key is not None:
            del self._node_of[key]
            self._keys[node] = None
            # A dict never shrinks: a hub that lost its links would hold their memory for ever.
            self.links[node] = {}
            self._free_nodes.append(node)
