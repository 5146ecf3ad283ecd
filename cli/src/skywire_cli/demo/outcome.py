"""What the demo found out, and what has to be so. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# What an app may notice when a node is killed and another way exists (F1); a busy machine is allowed it too.
LONGEST_PAUSE = 5.0


class Hop(NamedTuple):
    """One node of a route and its rule there: keys shortened, route ids as numbers."""

    direction: str
    node: str
    rule: str


@dataclass
class Outcome:
    """Filled in step by step; None where a step was not reached.

    Sizes in bytes, times in seconds, round trips in microseconds. `killed` names the node that was killed in the
    middle of the transfer; `forwarded` has its last count. `left` names what was found after the end.
    """

    size: int
    pings: int
    middle: Sequence[str] = ()
    route: Sequence[Hop] = ()
    second_route: Sequence[Hop] = ()
    killed: str = ""
    pause_s: float | None = None
    reroutes: int = 0
    resent: int = 0
    setup_node_killed: str = ""
    reserved_then: int = 0
    sent_sha256: str = ""
    received_sha256: str = ""
    received_size: int | None = None
    transfer_s: float | None = None
    answered: int | None = None
    round_trip_p50_us: float | None = None
    round_trip_p99_us: float | None = None
    forwarded: dict[str, int] = field(default_factory=dict)
    rules_left: dict[str, int] = field(default_factory=dict)
    loops_left: dict[str, int] = field(default_factory=dict)
    left: Sequence[str] | None = None

    @property
    def megabytes_per_s(self) -> float | None:
        """Return 10^6 bytes per second of the transfer."""
        return self.size / self.transfer_s / 1e6 if self.transfer_s else None


class Check(NamedTuple):
    """One thing that has to be so."""

    what: str
    holds: bool
    found: str


def checks(outcome: Outcome) -> list[Check]:
    """Return everything that has to be so, in the order of the steps."""
    rules, loops, left = outcome.rules_left, outcome.loops_left, outcome.left
    first, second = ({hop.node for hop in route} for route in (outcome.route, outcome.second_route))
    forwarded = {name: outcome.forwarded.get(name, 0) for name in outcome.middle if name in first | second}
    return [
        Check(
            f"{outcome.killed or 'the node in use'}, on the first route, was killed",
            bool(outcome.killed) and outcome.killed in first,
            _route(first),
        ),
        Check(
            "the loop went on by a second route around it",
            bool(second) and outcome.killed not in second and outcome.reroutes > 0,
            _route(second),
        ),
        Check(
            f"the pause was under {LONGEST_PAUSE:.0f} s",
            outcome.pause_s is not None and outcome.pause_s < LONGEST_PAUSE,
            "not seen" if outcome.pause_s is None else f"{outcome.pause_s:.2f} s",
        ),
        Check(
            "the file arrived whole",
            outcome.received_size == outcome.size,
            f"{outcome.received_size} of {outcome.size} bytes",
        ),
        Check(
            "SHA-256 is equal",
            bool(outcome.sent_sha256) and outcome.sent_sha256 == outcome.received_sha256,
            f"{outcome.sent_sha256[:16]}… and {outcome.received_sha256[:16]}…",
        ),
        Check(
            "a setup node was killed in the middle of a set-up",
            bool(outcome.setup_node_killed) and outcome.reserved_then > 0,
            f"{outcome.setup_node_killed or 'none'}, {outcome.reserved_then} route ids reserved",
        ),
        Check("every ping was answered", outcome.answered == outcome.pings, f"{outcome.answered} of {outcome.pings}"),
        Check("the nodes between forwarded packets", all(forwarded.values()) and bool(forwarded), _counts(forwarded)),
        Check("no rule is left on any node", bool(rules) and not any(rules.values()), _counts(rules)),
        Check("no loop is left on any node", bool(loops) and not any(loops.values()), _counts(loops)),
        Check(
            "no process, socket or file is left",
            left is not None and not left,
            "not looked at" if left is None else ", ".join(left) or "none",
        ),
    ]


def _route(nodes: set[str]) -> str:
    return ", ".join(sorted(nodes)) or "no route seen"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "not looked at"
