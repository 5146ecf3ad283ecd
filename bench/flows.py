"""Measure a pair of agents, whatever lies between them: bytes per second, round trips, openings.

Flows are counted where they arrive, between two instants of the receiver's own clock, after some time of running in:
neither what is under way at the start nor what is left at the end counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.control import Agent
from bench.processes import cpu, used
from bench.run import Run

MB = 1e6


@dataclass(frozen=True)
class Flow:
    """What arrived: MB/s of every stream, and the CPU seconds that each process spent per second of flow."""

    rates: list[float]
    seconds: float
    cpu: dict[str, float]

    @property
    def total(self) -> float:
        """MB/s of all streams."""
        return sum(self.rates)

    @property
    def evenness(self) -> float:
        """The slowest stream's share of the fastest one's rate."""
        return min(self.rates) / max(self.rates) if max(self.rates) else 0.0

    def cpu_per(self, units: float) -> dict[str, float]:
        """Microseconds of CPU per unit, of which `units` arrived in all."""
        return {name: round(seconds / units * 1e6, 2) for name, seconds in self.cpu.items()} if units else {}


@dataclass(frozen=True)
class Pair:
    """A dialling and a serving agent; `to` is what the dialler needs to reach the other, `between` the processes."""

    dialler: Agent
    server: Agent
    to: Any
    between: Mapping[str, int]

    @property
    def pids(self) -> dict[str, int]:
        """Every process that a byte passes."""
        return {"source": self.dialler.pid, **self.between, "sink": self.server.pid}

    async def flow(self, run: Run, *, streams: int = 1, size: int = 256 * 1024, do: str = "start") -> Flow:
        """Send as fast as it goes on so many streams, `size` bytes a write."""
        await self.dialler.ask(do, to=self.to, streams=streams, size=size)
        await self.server.ask("expect", streams=streams)
        await asyncio.sleep(run.warm)
        used_before = cpu(self.pids)
        before = await self.server.ask("counts")
        await asyncio.sleep(run.seconds)
        after = await self.server.ask("counts")
        used_after = cpu(self.pids)
        await self.dialler.ask("stop")
        await self.server.ask("expect", streams=0)
        seconds = after["at"] - before["at"]
        pairs = zip(before["bytes"], after["bytes"], strict=True)
        rates = [(late - early) / seconds / MB for early, late in pairs]
        return Flow(rates, seconds, used(used_before, used_after))

    async def ping(self, count: int, size: int = 16) -> tuple[float, float]:
        """Return p50 and p99 of the round trip, microseconds."""
        answer = await self.dialler.ask("ping", to=self.to, count=count, size=size)
        return answer["p50"], answer["p99"]

    async def open(self, count: int) -> tuple[float, float]:
        """Return p50 and p99 of opening a stream until its first echo, milliseconds."""
        answer = await self.dialler.ask("open", to=self.to, count=count)
        return answer["p50"], answer["p99"]
