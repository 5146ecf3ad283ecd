"""What a bench finds out: figures, each beside its yardstick and its target. Pure.

A figure holds one value per round. Where it has a yardstick, that was measured in the same round, so the ratio is the
median of the rounds' ratios: a machine that is slower for a minute changes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Any


class Verdict(Enum):
    """How a figure stands to its target."""

    REACHED = "reached"
    HALF = "half reached"
    SHORT = "short"
    NONE = ""


@dataclass(frozen=True)
class Goal:
    """A target. `relative`: of the ratio to the yardstick, else of the value; `most`: an upper bound, else a lower."""

    limit: float
    most: bool
    relative: bool

    @property
    def half(self) -> float:
        """What at least half of the target means: half the rate, or twice the time."""
        return self.limit * 2 if self.most else self.limit / 2

    def judge(self, judged: float) -> Verdict:
        """Compare the value or ratio with the target."""
        for limit, verdict in ((self.limit, Verdict.REACHED), (self.half, Verdict.HALF)):
            if judged <= limit if self.most else judged >= limit:
                return verdict
        return Verdict.SHORT


def at_least(limit: float) -> Goal:
    """The value is to be `limit` or more."""
    return Goal(limit, most=False, relative=False)


def at_most(limit: float) -> Goal:
    """The value is to be `limit` or less."""
    return Goal(limit, most=True, relative=False)


def share(limit: float) -> Goal:
    """The value is to be `limit` times the yardstick or more."""
    return Goal(limit, most=False, relative=True)


def multiple(limit: float) -> Goal:
    """The value is to be `limit` times the yardstick or less."""
    return Goal(limit, most=True, relative=True)


@dataclass
class Figure:
    """One measured thing; `details` go into the JSON, those whose value is a text are shown below the table too.

    An absolute target speaks of the machine that it was set on: where `reference` says what the yardstick was there,
    the value is judged `at_pace`, as it would be there.
    """

    what: str
    unit: str
    values: Sequence[float]
    goal: Goal | None = None
    yardstick: str = ""
    yardstick_values: Sequence[float] = ()
    reference: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def yardstick_value(self) -> float | None:
        """The yardstick's median; None without one."""
        return median(self.yardstick_values) if self.yardstick_values else None

    @property
    def ratio(self) -> float | None:
        """The median of the rounds' ratios to the yardstick; None without one."""
        if not self.yardstick_values:
            return None
        return median(value / beside for value, beside in zip(self.values, self.yardstick_values, strict=True))

    @property
    def at_pace(self) -> float:
        """The value at the pace of the machine on which the yardstick is `reference`; the value itself without one."""
        ratio = self.ratio
        return self.value if ratio is None or self.reference is None else ratio * self.reference

    @property
    def verdict(self) -> Verdict:
        """How it stands to its target."""
        if self.goal is None:
            return Verdict.NONE
        judged = self.ratio if self.goal.relative else self.at_pace
        return self.goal.judge(judged) if judged is not None else Verdict.NONE

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "values": list(self.values),
            "yardstick": self.yardstick,
            "yardstick_value": self.yardstick_value,
            "yardstick_values": list(self.yardstick_values),
            "ratio": self.ratio,
            "at_pace": self.at_pace,
            "target": None if self.goal is None else vars(self.goal) | {"half": self.goal.half},
            "verdict": self.verdict.value,
            "details": dict(self.details),
        }
