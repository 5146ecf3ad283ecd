"""Routing rules (docs/wire-format.md, Routing rules). Expiry is epoch seconds.

    app      expiry 8 ‖ 00 ‖ resp-rid 4 ‖ remote-pk 33 ‖ remote-port 2 ‖ local-port 2      50 bytes
    forward  expiry 8 ‖ 01 ‖ next-rid 4 ‖ next-tid 16                                      29 bytes

An app rule ends a route: its packets belong to a loop of this node, and answers leave by the forward rule
`response_id`. A forward rule sends on under `next_id` over `next_transport`.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from skywire_common.errors import DecodeError
from skywire_common.keys import PUBLIC_KEY_SIZE, Addr, PublicKey
from skywire_common.wire import Reader

MAX_TIME_TO_LIVE = 24 * 3600  # seconds from the instant that a rule is installed or renewed to its expiry
APP_TYPE = 0x00
FORWARD_TYPE = 0x01


class AppRule(NamedTuple):
    """Deliver to the loop between `remote` and `local_port`; answer by the rule `response_id`."""

    expiry: int
    response_id: int
    remote: Addr
    local_port: int

    def encode(self) -> bytes:
        """Return the 50 bytes of the layout."""
        return b"".join(
            (
                self.expiry.to_bytes(8, "big"),
                bytes((APP_TYPE,)),
                self.response_id.to_bytes(4, "big"),
                self.remote.public_key,
                self.remote.port.to_bytes(2, "big"),
                self.local_port.to_bytes(2, "big"),
            )
        )


class ForwardRule(NamedTuple):
    """Send on under the route id `next_id` over the transport `next_transport`."""

    expiry: int
    next_id: int
    next_transport: UUID

    def encode(self) -> bytes:
        """Return the 29 bytes of the layout."""
        return b"".join(
            (
                self.expiry.to_bytes(8, "big"),
                bytes((FORWARD_TYPE,)),
                self.next_id.to_bytes(4, "big"),
                self.next_transport.bytes,
            )
        )


Rule = AppRule | ForwardRule


class PlacedRule(NamedTuple):
    """A rule under its route id, with the only transport its packets may come from; None: the node's own loops."""

    route_id: int
    rule: Rule
    from_transport: UUID | None


class NodeRules(NamedTuple):
    """The route ids that one set-up has on one node."""

    public_key: PublicKey
    route_ids: tuple[int, ...]


def decode(data: bytes) -> Rule:
    """Read one rule, all of it; raises DecodeError."""
    reader = Reader(data)
    expiry = reader.uint(8)
    kind = reader.uint(1)
    rule: Rule
    if kind == APP_TYPE:
        response_id = reader.uint(4)
        key = PublicKey(reader.take(PUBLIC_KEY_SIZE))
        rule = AppRule(expiry, response_id, Addr(key, reader.uint(2)), reader.uint(2))
    elif kind == FORWARD_TYPE:
        rule = ForwardRule(expiry, reader.uint(4), UUID(bytes=reader.take(16)))
    else:
        raise DecodeError(f"a rule has type 0 (app) or 1 (forward), not {kind}")
    reader.end()
    return rule
