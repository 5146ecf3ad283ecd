"""What is known of transports and nodes, and the rules that make it up or down (docs/discovery.md, What it answers).

A transport is up while both edges' nodes live and what the edges said of it comes to up: one that spoke counts alone,
two that agree count, two that disagree mean down, none means down. A key that the node directory never heard of has no
lease and counts as living.

A node lives from a heartbeat until its lease ends. While it was heard from lately its key is held for its epoch: the
same key under another epoch is refused, unless it names the epoch that it replaces (a restart knows its last one).
After that the newest epoch has it. Times are milliseconds of the database's clock.
"""

from __future__ import annotations

from typing import NamedTuple

from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey

# What nodes are told. The lease in the table ends a little before, so that the sweep that finds it over and the word
# to the other replicas come within the minute.
LEASE_S = 60
LEASE_MS = 58_000
# One and a half heartbeats: whoever was silent for that long may be replaced.
HOLD_MS = 30_000


class EdgeState(NamedTuple):
    """What one edge said last of a transport, when (epoch seconds, 0 if never), and whether its node lives."""

    submitted: bool
    is_up: bool
    at: int
    alive: bool


class Transport(NamedTuple):
    """A registered transport, whether routes may use it, and its edges' states, each at its edge's index."""

    signed: SignedEntry
    is_up: bool
    states: tuple[EdgeState, EdgeState]


def is_up(first: EdgeState, second: EdgeState) -> bool:
    """Apply the rule above."""
    said = [state.is_up for state in (first, second) if state.submitted]
    return first.alive and second.alive and bool(said) and all(said)


class Endpoint(NamedTuple):
    """Where a node is reached for what: kind "tcp" or "control", address host:port."""

    kind: str
    address: str


class Heartbeat(NamedTuple):
    """A node's word about itself; `replaces` is the epoch that it had before its restart, 0 if it knows none."""

    key: PublicKey
    epoch: int
    endpoints: tuple[Endpoint, ...]
    max_hops: int
    stopping: bool = False
    replaces: int = 0


class Node(NamedTuple):
    """A node's record. Times are milliseconds of the database's clock."""

    key: PublicKey
    epoch: int
    endpoints: tuple[Endpoint, ...]
    max_hops: int
    alive: bool
    last_seen_ms: int
    lease_until_ms: int


def renew(known: Node | None, beat: Heartbeat, now_ms: int) -> Node:
    """Return the node's record after the heartbeat; raises DUPLICATE_IDENTITY if another epoch holds the key."""
    if known is not None and known.epoch not in (beat.epoch, beat.replaces):
        silent_ms = now_ms - known.last_seen_ms
        if known.alive and silent_ms < HOLD_MS:
            raise Failure(
                ErrorCode.DUPLICATE_IDENTITY,
                f"the key is in use by a node with another epoch, heard from {max(0, silent_ms) // 1000} s ago",
                FailureFields(hop_key=beat.key, retryable=True),
            )
    lease_ms = 0 if beat.stopping else LEASE_MS
    return Node(beat.key, beat.epoch, beat.endpoints, beat.max_hops, not beat.stopping, now_ms, now_ms + lease_ms)
