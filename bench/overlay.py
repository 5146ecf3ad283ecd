"""P1 to P4: loops over three nodes, apps as processes over their pipes, beside plain TCP through three relays."""

from __future__ import annotations

from bench.figures import Figure, at_least, at_most, multiple, share
from bench.flows import Flow
from bench.network import Line, line
from bench.run import Bench, Run
from bench.yardsticks.relays import fastest
from bench.yardsticks.tcp import through

NODES = 3
STREAMS = 20
MESSAGE = 1024
# Plain TCP through three C relays on the machine that the targets were set on, in MB/s (docs/performance.md).
REFERENCE_TCP = 983.0


async def _three(run: Run) -> Line:
    return await line(run, NODES)


async def _beside(run: Run) -> str:
    return f"TCP, {NODES} {(await fastest(run)).name} relays"


def _shares(flow: Flow) -> str:
    """Show how busy each process was, as a share of a core."""
    return ", ".join(f"{name} {spent / flow.seconds:.2f}" for name, spent in flow.cpu.items())


async def bulk(run: Run) -> list[Figure]:
    """P1: one loop."""
    pair, beside = (await _three(run)).pair(NODES), await through(run, NODES)
    ours, theirs = [], []
    for _ in range(run.rounds):
        theirs.append(await beside.flow(run))
        ours.append(await pair.flow(run))
    last = ours[-1]
    return [
        Figure(
            "bulk, one loop, three nodes",
            "MB/s",
            [flow.total for flow in ours],
            share(0.25),
            await _beside(run),
            [flow.total for flow in theirs],
            details={"cores used": _shares(last), "CPU s per GB": last.cpu_per(last.total * last.seconds * 1e3)},
        )
    ]


async def together(run: Run) -> list[Figure]:
    """P2: twenty loops at once."""
    pair, beside = (await _three(run)).pair(NODES), await through(run, NODES)
    one, many, theirs = [], [], []
    for _ in range(run.rounds):
        one.append(await pair.flow(run))
        many.append(await pair.flow(run, streams=STREAMS))
        theirs.append(await beside.flow(run, streams=STREAMS))
    return [
        Figure(
            f"bulk, {STREAMS} loops, total",
            "MB/s",
            [flow.total for flow in many],
            share(1.0),
            "one loop",
            [flow.total for flow in one],
            details={"cores used": _shares(many[-1])},
        ),
        Figure(f"bulk, {STREAMS} loops, slowest ÷ fastest", "", [flow.evenness for flow in many], at_least(0.8)),
        Figure(
            f"bulk, {STREAMS} loops, beside TCP",
            "MB/s",
            [flow.total for flow in many],
            None,
            await _beside(run),
            [flow.total for flow in theirs],
        ),
    ]


async def messages(run: Run) -> list[Figure]:
    """P3: messages of 1 KB on one loop, each written and read by itself."""
    pair = (await _three(run)).message_pair(NODES)
    beside = await through(run, NODES)
    flows, theirs = [], []
    for _ in range(run.rounds):
        theirs.append((await beside.flow(run)).total * 1e6 / MESSAGE)
        flows.append(await pair.flow(run, size=MESSAGE))
    last = flows[-1]
    rates = [flow.total * 1e6 / MESSAGE for flow in flows]
    per_message = last.cpu_per(rates[-1] * last.seconds)
    shown = ", ".join(f"{name} {spent:.1f} µs" for name, spent in per_message.items())
    return [
        Figure(
            "1 KB messages, one loop, three nodes",
            "messages/s",
            rates,
            at_least(50_000),
            f"{await _beside(run)}, their bytes",
            theirs,
            reference=REFERENCE_TCP * 1e6 / MESSAGE,
            details={"CPU per message": shown, "cores used": _shares(last)},
        )
    ]


async def round_trips(run: Run) -> list[Figure]:
    """P4: 16 bytes there and back, nothing else going on."""
    pair, beside = (await _three(run)).pair(NODES), await through(run, NODES)
    count = 300 if run.quick else 2000
    ours, theirs = [], []
    for _ in range(run.rounds):
        theirs.append(await beside.ping(count))
        ours.append(await pair.ping(count))
    name = await _beside(run)
    return [
        Figure("16 B round trip p50", "µs", [p50 for p50, _ in ours], multiple(2.0), name, [p50 for p50, _ in theirs]),
        Figure(
            "16 B round trip p99",
            "µs",
            [p99 for _, p99 in ours],
            at_most(1000),
            name,
            [p99 for _, p99 in theirs],
        ),
    ]


BENCHES = (
    Bench("P1", "bulk, one loop, three nodes, apps as processes over pipes", bulk),
    Bench("P2", f"bulk, {STREAMS} loops at once, three nodes", together),
    Bench("P3", "1 KB messages, one loop, three nodes", messages),
    Bench("P4", "round trip of 16 B, app to app, three nodes", round_trips),
)
