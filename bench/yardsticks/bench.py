"""The yardsticks by themselves: what this machine does today."""

from __future__ import annotations

from bench.figures import Figure
from bench.flows import MB
from bench.run import Bench, Run
from bench.yardsticks.relays import fastest
from bench.yardsticks.seal import seals_per_second
from bench.yardsticks.tcp import through, through_python

STREAMS = 20


async def measure(run: Run) -> list[Figure]:
    """Measure plain TCP directly, through 1 to 3 relays, through Python's, and the cipher."""
    relays = await fastest(run)
    pairs = {"plain TCP": await through(run, 0)}
    for hops in (1, 2, 3):
        pairs[f"{hops} {relays.name} relay{'s' * (hops > 1)}"] = await through(run, hops)
    if relays.name != "Python":
        pairs["3 Python relays"] = await through_python(run, 3)
    figures: list[Figure] = []
    for name, pair in pairs.items():
        run.say(f"yardstick: {name}")
        one, many, pings, opens = [], [], [], []
        for _ in range(run.rounds):
            one.append(await pair.flow(run))
            many.append(await pair.flow(run, streams=STREAMS))
            pings.append(await pair.ping(500 if run.quick else 2000))
            opens.append(await pair.open(50 if run.quick else 200))
        spread = f"{min(many[-1].rates):.0f} to {max(many[-1].rates):.0f}"
        figures += [
            Figure(f"{name}: one stream", "MB/s", [flow.total for flow in one]),
            Figure(f"{name}: {STREAMS} streams", "MB/s", [flow.total for flow in many], details={"spread": spread}),
            Figure(f"{name}: 16 B round trip p50", "µs", [p50 for p50, _ in pings]),
            Figure(f"{name}: 16 B round trip p99", "µs", [p99 for _, p99 in pings]),
            Figure(f"{name}: opening a stream p50", "ms", [p50 for p50, _ in opens]),
        ]
    seconds = run.seconds / 3
    figures += [
        Figure(
            "ChaCha20-Poly1305, 48 KB",
            "MB/s",
            [seals_per_second(48_000, seconds) * 48_000 / MB for _ in range(run.rounds)],
        ),
        Figure("ChaCha20-Poly1305, 64 B", "/s", [seals_per_second(64, seconds) for _ in range(run.rounds)]),
    ]
    return figures


BENCHES = (Bench("yardsticks", "plain TCP through relays, and the cipher, on this machine today", measure),)
