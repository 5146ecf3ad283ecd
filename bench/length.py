"""P7: what length costs: CPU per byte and round trip over 1 to 16 hops of one line of nodes, beside as many relays."""

from __future__ import annotations

from statistics import median

from bench.figures import Figure, at_most
from bench.network import line
from bench.run import Bench, Run
from bench.yardsticks.relays import fastest
from bench.yardsticks.tcp import through

HOPS = (1, 2, 4, 8, 16)
QUICK_HOPS = (1, 2, 4)
_GB = 1e3  # in MB
REFERENCE_HOP = 35.5  # µs that a relay in C adds to a round trip where the target was set


async def measure(run: Run) -> list[Figure]:
    """Measure flows and round trips from the first node of a line to others."""
    hops = QUICK_HOPS if run.quick else HOPS
    long = await line(run, max(hops) + 1, tuple(count + 1 for count in hops))
    spent: dict[int, list[float]] = {count: [] for count in hops}
    trips: dict[int, list[float]] = {count: [] for count in hops}
    rates: dict[int, list[float]] = {count: [] for count in hops}
    beside: dict[int, list[float]] = {count: [] for count in hops}
    for _ in range(run.rounds):
        for count in hops:
            pair = long.pair(count + 1)
            flow = await pair.flow(run)
            rates[count].append(flow.total)
            if flow.total:
                spent[count].append(sum(flow.cpu.values()) / (flow.total * flow.seconds / _GB))
            trips[count].append((await pair.ping(100 if run.quick else 400))[0])
            beside[count].append((await (await through(run, count)).ping(100 if run.quick else 400))[0])
    cost = {count: median(spent[count]) for count in hops if spent[count]}
    added, relayed = (
        [_slope({count: of[count][index] for count in hops}) for index in range(run.rounds)] for of in (trips, beside)
    )
    figures = []
    for count in hops:
        name = f"{count} hop{'s' * (count > 1)}"
        figures.append(Figure(f"{name}: round trip p50", "µs", trips[count]))
        figures.append(Figure(f"{name}: bulk", "MB/s", rates[count]))
        if spent[count]:
            figures.append(Figure(f"{name}: CPU per GB, all processes", "s", spent[count]))
    return [
        Figure(
            "each hop adds to the round trip",
            "µs",
            added,
            at_most(60),
            f"a relay in {(await fastest(run)).name} adds",
            relayed,
            reference=REFERENCE_HOP,
        ),
        Figure("CPU per byte: worst distance from a straight line", "%", [_bend(cost) * 100], at_most(15)),
        *figures,
    ]


def _fit(points: dict[int, float]) -> tuple[float, float]:
    """Return offset and slope of the straight line nearest to the points (least squares)."""
    middle_x, middle_y = sum(points) / len(points), sum(points.values()) / len(points)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points.items()) / sum((x - middle_x) ** 2 for x in points)
    return middle_y - slope * middle_x, slope


def _slope(points: dict[int, float]) -> float:
    return _fit(points)[1]


def _bend(points: dict[int, float]) -> float:
    offset, slope = _fit(points)
    return max(abs(y - (offset + slope * x)) / y for x, y in points.items())


BENCHES = (Bench("P7", "cost of length: loops over many hops", measure),)
