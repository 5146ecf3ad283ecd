"""What the demo found out, and what has to be so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# What an app may notice when a node is killed and another way exists; a busy machine is allowed it too.
LONGEST_PAUSE = 5.0
# What a quiet machine keeps: with a setup node that finds another way, and with one that stands ready.
TARGET_PAUSE, TARGET_STANDBY_PAUSE = 2.0, 0.3


class Hop(NamedTuple):
    """One node of a route and its rule there: keys shortened, route ids as numbers."""

    direction: str
    node: str
    rule: str


@dataclass
class Sent:
    """A file on its way, filled in step by step; None where a step was not reached.

    Sizes in bytes, times in seconds. `killed` names the node that was killed in the middle of the transfer. One that
    was held on the way has no time of its own.
    """

    size: int
    route: Sequence[Hop] = ()
    second_route: Sequence[Hop] = ()
    killed: str = ""
    pause_s: float | None = None
    reroutes: int = 0
    resent: int = 0
    sent_sha256: str = ""
    received_sha256: str = ""
    received_size: int | None = None
    transfer_s: float | None = None

    @property
    def megabytes_per_s(self) -> float | None:
        """Return 10^6 bytes per second of the transfer."""
        return self.size / self.transfer_s / 1e6 if self.transfer_s else None

    def held_to(self, target: float) -> str:
        """Say whether the pause met a target in seconds, for people."""
        return "met" if self.pause_s is not None and self.pause_s <= target else "NOT met"


@dataclass
class Outcome(Sent):
    """The whole demo; the large file's own fields are here, those of the one with a standby route in `standby`.

    Round trips in microseconds. `forwarded` has the last count of a node that was killed. `left` names what was found
    after the end. With `breaks` nodes and setup nodes are killed on the way, else nobody is.
    """

    pings: int = 0
    topology: str = "diamond"
    breaks: bool = True
    middle: Sequence[str] = ()
    standby: Sent | None = None
    without: Sequence[str] = ()  # setup nodes that did not run while the standby route was needed
    setup_node_killed: str = ""
    reserved_then: int = 0
    answered: int | None = None
    round_trip_p50_us: float | None = None
    round_trip_p99_us: float | None = None
    forwarded: dict[str, int] = field(default_factory=dict)
    rules_left: dict[str, int] = field(default_factory=dict)
    loops_left: dict[str, int] = field(default_factory=dict)
    left: Sequence[str] | None = None

    @property
    def dead(self) -> str:
        """Return the name of the node that is dead at the end; the first one was started again."""
        return self.standby.killed if self.standby is not None and self.standby.killed else self.killed


class Check(NamedTuple):
    """One thing that has to be so."""

    what: str
    holds: bool
    found: str


def checks(outcome: Outcome) -> list[Check]:
    """Return everything that has to be so, in the order of the steps."""
    rules, loops, left = outcome.rules_left, outcome.loops_left, outcome.left
    passed = _nodes(outcome.route) | _nodes(outcome.second_route)
    forwarded = {name: outcome.forwarded.get(name, 0) for name in outcome.middle if name in passed}
    return [
        *(_survived(outcome) if outcome.breaks else ()),
        *_arrived(outcome, "the file"),
        *(_setup_node(outcome) if outcome.breaks else ()),
        Check("every ping was answered", outcome.answered == outcome.pings, f"{outcome.answered} of {outcome.pings}"),
        *(_with_standby(outcome) if outcome.breaks else ()),
        Check("the nodes between forwarded packets", all(forwarded.values()) and bool(forwarded), _counts(forwarded)),
        Check("no rule is left on any node", bool(rules) and not any(rules.values()), _counts(rules)),
        Check("no loop is left on any node", bool(loops) and not any(loops.values()), _counts(loops)),
        Check(
            "no process, socket or file is left",
            left is not None and not left,
            "not looked at" if left is None else ", ".join(left) or "none",
        ),
    ]


def _survived(sent: Sent) -> Iterator[Check]:
    first, second = _nodes(sent.route), _nodes(sent.second_route)
    yield Check(
        f"{sent.killed or 'the node in use'}, on the route in use, was killed",
        bool(sent.killed) and sent.killed in first,
        _route(first),
    )
    yield Check(
        "the loop went on by a second route around it",
        bool(second) and sent.killed not in second and sent.reroutes > 0,
        _route(second),
    )
    yield Check(
        f"the pause was under {LONGEST_PAUSE:.0f} s",
        sent.pause_s is not None and sent.pause_s < LONGEST_PAUSE,
        "not seen" if sent.pause_s is None else f"{sent.pause_s:.2f} s",
    )


def _arrived(sent: Sent, what: str) -> Iterator[Check]:
    yield Check(f"{what} arrived whole", sent.received_size == sent.size, f"{sent.received_size} of {sent.size} bytes")
    yield Check(
        "SHA-256 is equal",
        bool(sent.sent_sha256) and sent.sent_sha256 == sent.received_sha256,
        f"{sent.sent_sha256[:16]}… and {sent.received_sha256[:16]}…",
    )


def _with_standby(outcome: Outcome) -> Iterator[Check]:
    sent = outcome.standby or Sent(0)
    yield Check(
        "with a standby route the same, and no setup node ran", bool(outcome.without), ", ".join(outcome.without) or "-"
    )
    yield from _survived(sent)
    yield from _arrived(sent, "the second file")


def _setup_node(outcome: Outcome) -> Iterator[Check]:
    yield Check(
        "a setup node was killed in the middle of a set-up",
        bool(outcome.setup_node_killed) and outcome.reserved_then > 0,
        f"{outcome.setup_node_killed or 'none'}, {outcome.reserved_then} route ids reserved",
    )


def _nodes(route: Sequence[Hop]) -> set[str]:
    return {hop.node for hop in route}


def _route(nodes: set[str]) -> str:
    return ", ".join(sorted(nodes)) or "no route seen"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "not looked at"
