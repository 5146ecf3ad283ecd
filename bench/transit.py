"""P5: one node in transit, records opened and sealed on both sides, small and large packets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from bench.control import Agent, Control
from bench.figures import Figure, at_least
from bench.flows import MB
from bench.processes import cpu, module, start, used
from bench.run import Bench, Run
from bench.yardsticks.seal import seals_per_second

SMALL, LARGE = 64, 32 * 1024
REFERENCE_SEAL = 3000.0  # MB/s on the machine that the targets were set on


@dataclass(frozen=True)
class Transit:
    """A node between a source and a sink, each a process."""

    node: Agent
    source: Agent
    sink: Agent
    incoming: str
    outgoing: str

    @property
    def pids(self) -> dict[str, int]:
        """All three."""
        return {"source": self.source.pid, "node": self.node.pid, "sink": self.sink.pid}

    async def rules(self, count: int) -> dict[str, Any]:
        """Install rules from the source's link to the sink's."""
        return await self.node.ask("install", count=count, incoming=self.incoming, outgoing=self.outgoing)

    async def rate(self, run: Run, size: int, rules: dict[str, Any]) -> tuple[float, dict[str, float], int]:
        """Return packets per second at the sink, the share of a core of each process, and packets dropped."""
        await self.sink.ask("swallow", size=size, ids=rules["onward"])
        dropped = (await self.node.ask("counts"))["dropped"]
        await self.source.ask("flood", size=size, ids=rules["ids"])
        await asyncio.sleep(run.warm)
        used_before, before = cpu(self.pids), await self.sink.ask("counts")
        await asyncio.sleep(run.seconds)
        used_after, after = cpu(self.pids), await self.sink.ask("counts")
        await self.source.ask("stop")
        await self._until_still()
        seconds = after["at"] - before["at"]
        cores = {name: round(spent / seconds, 2) for name, spent in used(used_before, used_after).items()}
        dropped = (await self.node.ask("counts"))["dropped"] - dropped
        return (after["packets"] - before["packets"]) / seconds, cores, dropped

    async def _until_still(self) -> None:
        """Wait until the node has sent what it had."""
        last = -1
        while last != (last := (await self.sink.ask("counts"))["packets"]):
            await asyncio.sleep(0.05)


async def transit_of(run: Run) -> Transit:
    """Return the node with its two neighbours; the same one every time."""
    return await run.shared("transit", lambda: _transit(run))


async def _transit(run: Run) -> Transit:
    control = await Control.open(run)
    await start(run, *module("agents.transit", str(control.path), "transit"))
    for name in ("source", "sink"):
        await start(run, *module("agents.neighbour", str(control.path), name))
    node, source, sink = [await control.agent(name) for name in ("transit", "source", "sink")]
    where = await node.ask("listen")
    incoming, outgoing = [(await agent.ask("dial", **where))["transport"] for agent in (source, sink)]
    return Transit(node, source, sink, incoming, outgoing)


async def measure(run: Run) -> list[Figure]:
    """Measure both sizes over sockets, the same without them, and the cipher beside."""
    through = await transit_of(run)
    rules = await through.rules(1)
    small, large, small_memory, large_memory, seals = [], [], [], [], []
    for _ in range(run.rounds):
        small.append(await through.rate(run, SMALL, rules))
        large.append(await through.rate(run, LARGE, rules))
        seconds = run.seconds / 2
        for size, rates in ((SMALL, small_memory), (LARGE, large_memory)):
            rates.append((await through.node.ask("memory", size=size, rules=1, seconds=seconds))["packets_per_second"])
        seals.append(seals_per_second(LARGE, run.seconds / 4) * LARGE / MB)
    beside = "seal alone, 32 KB"
    return [
        Figure("64 B, sockets", "packets/s", [rate for rate, *_ in small], at_least(1e6), details=_shown(small)),
        Figure(
            "32 KB, sockets",
            "MB/s",
            [rate * LARGE / MB for rate, *_ in large],
            at_least(800),
            beside,
            seals,
            REFERENCE_SEAL,
            details=_shown(large),
        ),
        Figure("64 B, in memory", "packets/CPU s", small_memory),
        Figure("32 KB, in memory", "MB/CPU s", [rate * LARGE / MB for rate in large_memory], None, beside, seals),
    ]


def _shown(rounds: list[tuple[float, dict[str, float], int]]) -> dict[str, Any]:
    _, cores, _ = rounds[-1]
    return {
        "cores used": ", ".join(f"{name} {share:.2f}" for name, share in cores.items()),
        "dropped": sum(dropped for *_, dropped in rounds),
    }


BENCHES = (Bench("P5", "one node in transit, sealed on both links", measure),)
