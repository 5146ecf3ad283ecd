"""Draw how search, load and memory grow with the size of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(sizes: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG with five panels, all axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    nodes = [size["nodes"] for size in sizes]
    panels: list[tuple[str, list[tuple[str, str]]]] = [
        (
            "FindRoutes, ms of CPU",
            [
                ("one_p50_ms", "one route, p50"),
                ("one_p99_ms", "one route, p99"),
                ("five_p50_ms", "five disjoint, p50"),
                ("five_p99_ms", "five disjoint, p99"),
            ],
        ),
        ("loading the graph, s", [("load_s", "load")]),
        ("memory of the process, MB", [("memory_mb", "with graph"), ("memory_before_mb", "before")]),
    ]
    named = [(name, name) for name in sizes[0]["calls"]]
    drawn = [(title, [(label, [size[name] for size in sizes]) for name, label in lines]) for title, lines in panels]
    for title, value in (
        ("calls per second, 64 callers", lambda one: one["per_second"]),
        ("the server's CPU of one call or entry, µs", lambda one: one["cpu_us"]["server"]),
    ):
        drawn.append((title, [(label, [value(size["calls"][name]) for size in sizes]) for name, label in named]))
    figure, axes = pyplot.subplots(2, 3, figsize=(14, 8), layout="constrained")
    axes.flat[-1].axis("off")
    for axis, (title, lines) in zip(axes.flat, drawn, strict=False):
        for label, values in lines:
            axis.plot(nodes, values, marker="o", label=label)
        axis.set(title=title, xlabel="nodes, five transports each", xscale="log", yscale="log")
        axis.grid(True, which="both", alpha=0.3)
        if len(lines) < len(named):
            axis.legend(fontsize=8)
    # The calls' two panels share one, where it covers nothing.
    axes.flat[-1].legend(*axes.flat[-2].get_legend_handles_labels(), loc="center")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
