"""P9 and P10: the discovery's calls, routes and size. `python -m bench.discovery` measures; here it takes its place."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

from bench.figures import Figure, Goal, at_least, at_most, share
from bench.processes import ROOT, module, start
from bench.run import Bench, Run

NODES, QUICK_NODES = 100_000, 10_000
REFERENCE_CALLS = 3_750.0  # bare unary calls a second on the machine that the targets were set on
_CALLS: dict[str, Goal | None] = {
    "registrations, one by one": share(0.4),
    "registrations, in batches of 100": at_least(4_000),
    "heartbeats": share(0.6),
    "lookups": share(0.6),
    "status updates": None,
}


async def calls(run: Run) -> list[Figure]:
    """P9: one process on each database, each round of each kind of call right after bare calls."""
    quick = ("--quick", "--database", "sqlite") if run.quick else ()
    # Interrupted, it takes its own processes down.
    process = await start(run, *module("discovery", "--only", "calls", *quick), ending=signal.SIGINT)
    if await process.wait():
        raise RuntimeError("python -m bench.discovery --only calls failed; it says why when run by itself")
    found = json.loads((ROOT / "bench" / "out" / f"discovery{'-quick' if run.quick else ''}.json").read_text())
    figures = []
    for database in ("sqlite", "postgresql"):
        measured = found.get(database, {})
        for what, goal in _CALLS.items():
            if what in measured:
                rates, bare = measured[what]["rounds"], measured[what]["bare"]
                reference = REFERENCE_CALLS if goal is not None and not goal.relative else None
                beside = "bare unary calls"
                figures.append(Figure(f"{database}: {what}", "/s", rates, goal, beside, bare, reference))
    return figures


async def routes(run: Run) -> list[Figure]:
    """P10: FindRoutes at full size, in a process of its own."""
    nodes = QUICK_NODES if run.quick else NODES
    command = module("discovery.graphs", str(nodes), str(run.directory))
    process = await start(run, *command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command} failed")
    found: dict[str, Any] = json.loads(said)
    size = f"{nodes:,} nodes, {int(found['transports']):,} transports"
    return [
        Figure(f"one pair p50, {size}", "ms CPU", [found["one_p50_ms"]], at_most(1)),
        Figure("five disjoint p50", "ms CPU", [found["five_p50_ms"]], at_most(5)),
        Figure("load", "s", [found["load_s"]], at_most(15)),
        Figure("memory", "MB", [found["memory_mb"]], at_most(400)),
    ]


BENCHES = (
    Bench("P9", "one discovery process, 64 callers, signed", calls),
    Bench("P10", "routes in the discovery's graph", routes),
)
