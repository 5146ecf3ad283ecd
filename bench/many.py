"""P8: what many loops and many rules cost a node: its rate per packet, and memory."""

from __future__ import annotations

from bench.control import Control
from bench.figures import Figure, at_most, share
from bench.processes import module, start
from bench.run import Bench, Run
from bench.transit import SMALL, transit_of

RULES = (10, 100_000)
LOOPS = (1, 1_000)
QUICK_RULES = (10, 10_000)
QUICK_LOOPS = (1, 100)
_KEPT = share(0.9)


async def measure(run: Run) -> list[Figure]:
    """Measure few and many of each in turn."""
    return [*await _rules(run), *await _loops(run)]


async def _rules(run: Run) -> list[Figure]:
    few, many = QUICK_RULES if run.quick else RULES
    through = await transit_of(run)
    grown = (await through.rules(many))["grown"]
    seconds = run.seconds / 2
    rates: dict[int, list[float]] = {few: [], many: []}
    beside = []
    for _ in range(run.rounds):
        for count in (few, many):
            answer = await through.node.ask("memory", size=SMALL, rules=count, seconds=seconds)
            rates[count].append(answer["packets_per_second"])
        answer = await through.node.ask("memory", size=SMALL, rules=few, others=many - few, seconds=seconds)
        beside.append(answer["packets_per_second"])
    unit = "64 B packets/CPU s"
    return [
        Figure(f"{few} rules in use, {many:,} installed", unit, beside, _KEPT, f"{few} installed", rates[few]),
        Figure(f"{many:,} rules in use, one after the other", unit, rates[many], _KEPT, f"{few} in use", rates[few]),
        Figure("memory per rule", "B", [grown / many], at_most(500)),
    ]


async def _loops(run: Run) -> list[Figure]:
    few, many = QUICK_LOOPS if run.quick else LOOPS
    control = await Control.open(run)
    await start(run, *module("agents.loops", str(control.path), "loops"))
    agent = await control.agent("loops")
    await agent.ask("make", count=few)
    grown = (await agent.ask("make", count=many - few))["grown"]
    rates: dict[int, list[float]] = {few: [], many: []}
    messages: dict[int, list[float]] = {few: [], many: []}
    for _ in range(run.rounds):
        for count in (few, many):
            answer = await agent.ask("run", active=count, seconds=run.seconds)
            rates[count].append(answer["packets"])
            messages[count].append(answer["messages"])
    beside = f"{few} in use"
    return [
        Figure(f"{many:,} loops in use", "packets/CPU s", rates[many], _KEPT, beside, rates[few]),
        Figure(
            f"{many:,} loops in use, per message", "33 KB messages/CPU s", messages[many], None, beside, messages[few]
        ),
        Figure("memory per idle loop, one end", "B", [grown / (many - few) / 2], at_most(20_000)),
    ]


BENCHES = (Bench("P8", "cost of many: loops and rules on a node", measure),)
