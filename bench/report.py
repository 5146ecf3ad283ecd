"""Tables for people, JSON for other programs, and two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.figures import Figure, Goal

_HEADINGS = ("figure", "value", "yardstick", "ratio", "there", "target", "half", "verdict")


def table(title: str, figures: Sequence[Figure]) -> str:
    """Draw the table of one target."""
    rows = [list(_HEADINGS)]
    rows += [list(_row(figure)) for figure in figures]
    lines = [title, *_aligned(rows)]
    for figure in figures:
        shown = [f"{name}: {text}" for name, text in figure.details.items() if isinstance(text, str)]
        if shown:
            lines.append(f"  {figure.what}: {'; '.join(shown)}")
    return "\n".join(lines) + "\n"


def compare(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Put two runs' documents side by side: what both measured, by ratio where there is one."""
    rows = [["", "figure", "before", "now", "change"]]
    for name, bench in new["benches"].items():
        before = {figure["what"]: figure for figure in old["benches"].get(name, {}).get("figures", ())}
        for figure in bench["figures"]:
            other = before.get(figure["what"])
            if other is not None:
                key = "ratio" if figure["ratio"] is not None and other["ratio"] is not None else "value"
                change = f"{figure[key] / other[key] - 1:+.0%}" if other[key] else ""
                unit = "x" if key == "ratio" else figure["unit"]
                rows.append(
                    [name, figure["what"], f"{_number(other[key])} {unit}", f"{_number(figure[key])} {unit}", change]
                )
    return "\n".join(_aligned(rows)) + "\n"


def load(path: Path) -> dict[str, Any]:
    """Read the document of an earlier run."""
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def _row(figure: Figure) -> Iterator[str]:
    goal, beside, ratio = figure.goal, figure.yardstick_value, figure.ratio
    yield figure.what
    yield f"{_number(figure.value)} {figure.unit}"
    yield "" if beside is None else f"{_number(beside)} ({figure.yardstick})"
    yield "" if ratio is None else f"{ratio:.3g}"
    yield "" if figure.reference is None else f"{_number(figure.at_pace)} {figure.unit}"
    yield "" if goal is None else _limit(goal, goal.limit, figure.unit)
    yield "" if goal is None else _limit(goal, goal.half, figure.unit)
    yield figure.verdict.value


def _limit(goal: Goal, limit: float, unit: str) -> str:
    return f"{'≤' if goal.most else '≥'} {_number(limit)} {'x' if goal.relative else unit}".rstrip()


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _aligned(rows: list[list[str]]) -> list[str]:
    rows = [list(row) for row in zip(*(column for column in zip(*rows, strict=True) if any(column[1:])), strict=True)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [lines[0], "  " + "─" * (sum(widths) + 2 * len(widths) - 2), *lines[1:]]
