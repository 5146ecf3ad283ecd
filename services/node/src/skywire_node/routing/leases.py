"""What the routing table holds: set-ups, and the rules they installed.

Small on purpose: a node in the middle of many routes has 100,000 of these (docs/performance.md, P8).
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from skywire_common.keys import Addr
from skywire_common.rules import APP_TYPE, FORWARD_TYPE, AppRule, ForwardRule, Rule

SETUP_ID_SIZE = 16


class Setup:
    """What one set-up of one owner holds: every id it was given, in order, installed or not.

    `edges`: the tags of its loop's two edges (`edge_tags`), 32 bytes; empty before rules are installed.
    """

    __slots__ = ("due", "edges", "given", "key", "reserved_until")

    def __init__(self, key: bytes, given: tuple[int, ...], reserved_until: float) -> None:
        self.key = key
        self.given = given
        self.reserved_until = reserved_until
        self.due = reserved_until
        self.edges = b""

    @property
    def setup_id(self) -> bytes:
        """The set-up, 16 bytes."""
        return self.key[-SETUP_ID_SIZE:]

    @property
    def owner(self) -> bytes:
        """The setup node that reserved, 33 bytes; empty: this node itself."""
        return self.key[:-SETUP_ID_SIZE]

    def __lt__(self, other: Setup) -> bool:
        return self.due < other.due


class Installed:
    """One rule with its lease and counters; the router reads and counts here, everyone else only reads.

    `kind` is 0 (app) or 1 (forward); `next_id` is the id to send on under, or an app rule's response id.
    `lapses`, `expires` and `used` are monotonic seconds, `expiry` is epoch seconds; `used` is 0.0 before the first
    packet. `lapses` is `expires` once the rule was used.
    """

    __slots__ = (
        "_end",
        "bytes",
        "expires",
        "expiry",
        "from_transport",
        "kind",
        "lapses",
        "next_id",
        "next_transport",
        "packets",
        "setup",
        "used",
    )

    def __init__(
        self, rule: Rule, next_transport: UUID | None, from_transport: UUID | None, setup: Setup, expires: float
    ) -> None:
        self.kind: int
        self.next_id: int
        self._end: tuple[Addr, int] | None
        if isinstance(rule, AppRule):
            self.kind, self.next_id, self._end = APP_TYPE, rule.response_id, (rule.remote, rule.local_port)
        else:
            self.kind, self.next_id, self._end = FORWARD_TYPE, rule.next_id, None
        self.next_transport = next_transport
        self.from_transport = from_transport
        self.setup = setup
        self.expiry = rule.expiry
        self.expires = expires
        self.lapses = expires
        self.used = 0.0
        self.packets = 0
        self.bytes = 0

    @property
    def rule(self) -> Rule:
        """The rule as it travels, with the expiry of the last renewal."""
        if self._end is not None:
            return AppRule(self.expiry, self.next_id, *self._end)
        assert self.next_transport is not None  # noqa: S101 - what __init__ made
        return ForwardRule(self.expiry, self.next_id, self.next_transport)

    @property
    def setup_id(self) -> bytes:
        """The set-up that installed it, 16 bytes."""
        return self.setup.setup_id

    @property
    def owner(self) -> bytes:
        """The setup node that installed it, 33 bytes; empty: this node itself."""
        return self.setup.owner

    def same(self, rule: Rule, from_transport: UUID | None) -> bool:
        """Say whether this is that rule, whatever its expiry became by renewals."""
        return self.rule._replace(expiry=0) == rule._replace(expiry=0) and self.from_transport == from_transport

    def __repr__(self) -> str:
        return f"Installed({self.rule}, from={self.from_transport}, packets={self.packets})"


class Kept(NamedTuple):
    """A rule as it survives a restart. `lapses` is epoch seconds."""

    route_id: int
    owner: bytes
    setup_id: bytes
    edges: bytes
    rule: Rule
    from_transport: UUID | None
    lapses: float
    packets: int
    bytes: int
