"""64 callers in one process, each with a key of its own: `python -m bench.discovery.caller JSON`; prints rates as JSON.

What is sent is made beforehand; what is measured is the call: signing it, sending it, checking its answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import uvloop
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert.entries import signed_entry_to
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.keys import PublicKey
from skywire_common.rpc.client import RpcChannel

CALLERS = 64
BATCH = 100
ROUNDS = 3
PACKAGE = "/skywire.transport_discovery.v1."
Work = Callable[[int], Awaitable[int]]


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and its children, dead or alive, have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(cpu_s(int(child)) for child in children)


async def rate(seconds: float, work: Work, pids: dict[str, int]) -> dict[str, Any]:
    """Run `work(caller)` without a pause in every caller.

    Return units a second, the time of a call (ms), and the CPU time of a unit (µs) in each process: what the callers
    cost too, and what does not change with whatever else the machine does.
    """
    done = 0
    pids = {"callers": os.getpid()} | pids
    used = {name: cpu_s(pid) for name, pid in pids.items()}
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def one(caller: int) -> None:
        nonlocal done
        while (began := time.perf_counter()) < end:
            units = await work(caller)
            if not units:
                return
            done += units
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one(caller) for caller in range(CALLERS)))
    took = time.perf_counter() - began
    times.sort()
    return {
        "per_second": done / took,
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
        "cpu_us": {name: (cpu_s(pid) - used[name]) / done * 1e6 for name, pid in pids.items()},
    }


class Callers:
    """The callers' channels and what they send."""

    def __init__(self, address: str, audience: PublicKey, entries: int) -> None:
        self.secrets = [SecretKey.generate() for _ in range(CALLERS)]
        # Nobody has more than a thousand transports, so each caller's have another end of their own.
        self.others = [SecretKey.generate() for _ in range(CALLERS)]
        # One connection each, as nodes have.
        self.channels = [RpcChannel(address, audience, secret) for secret in self.secrets]
        per_caller = entries // CALLERS + 1
        self.entries = [
            [_entry(secret, other, f"t{number}") for number in range(per_caller)]
            for secret, other in zip(self.secrets, self.others, strict=True)
        ]
        self.left = [iter(mine) for mine in self.entries]

    async def connect(self) -> Callers:
        """Open all connections, which the yardstick's are too before it is measured."""
        await asyncio.gather(*(self.beat(caller) for caller in range(CALLERS)))
        return self

    async def register(self, caller: int, batch: int) -> int:
        entries = list(itertools.islice(self.left[caller], batch))
        if len(entries) < batch:
            return 0
        request = pb.RegisterTransportsRequest(entries=entries)
        await self.call(caller, "TransportDiscovery/RegisterTransports", request, pb.RegisterTransportsResponse)
        return batch

    async def say(self, caller: int, up: bool) -> int:
        transport = self.entries[caller][0].entry.transport_id
        request = pb.UpdateStatusesRequest(statuses=[pb.UpdateStatusesRequest.Status(transport_id=transport, is_up=up)])
        await self.call(caller, "TransportDiscovery/UpdateStatuses", request, pb.UpdateStatusesResponse)
        return 1

    async def beat(self, caller: int) -> int:
        request = pb.RegisterNodeRequest(endpoints=[pb.Endpoint(kind="tcp", address="198.51.100.1:7777")], epoch=7)
        await self.call(caller, "NodeDirectory/RegisterNode", request, pb.RegisterNodeResponse)
        return 1

    async def look_up(self, caller: int) -> int:
        request = pb.GetTransportRequest(transport_id=self.entries[caller][0].entry.transport_id)
        await self.call(caller, "TransportDiscovery/GetTransport", request, pb.GetTransportResponse, signed=False)
        return 1

    async def call(self, caller: int, method: str, request: Any, answer: Any, signed: bool = True) -> None:
        await self.channels[caller].call(PACKAGE + method, request, answer, timeout=30, signed=signed)


def _entry(secret: SecretKey, other: SecretKey, kind: str) -> Any:
    entry = Entry.between(secret.public, other.public, kind, True)
    return signed_entry_to(SignedEntry.unsigned(entry).sign(secret).sign(other))


async def bare(address: str, seconds: float, pid: int) -> dict[str, Any]:
    """Measure calls of a server that does nothing, with requests of the same size."""
    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(CALLERS)
    ]
    calls = [channel.unary_unary("/bare.Echo/Call") for channel in channels]

    async def one(caller: int) -> int:
        await calls[caller](bytes(300), timeout=30)
        return 1

    await rate(seconds / 8, one, {})
    found = await rate(seconds, one, {"server": pid})
    for channel in channels:
        await channel.close()
    return found


def whole(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of some rounds of one thing, and each round's rate."""
    return {
        "per_second": median(one["per_second"] for one in rounds),
        "p50_ms": median(one["p50_ms"] for one in rounds),
        "p99_ms": median(one["p99_ms"] for one in rounds),
        "cpu_us": {name: median(one["cpu_us"][name] for one in rounds) for name in rounds[0]["cpu_us"]},
        "rounds": [one["per_second"] for one in rounds],
    }


async def main(asked: dict[str, Any]) -> dict[str, Any]:
    """Measure everything in turn, ROUNDS times, each time with the yardstick right before it."""
    seconds, pids = asked["seconds"] / ROUNDS, asked["pids"]
    audience = PublicKey.parse(asked["public_key"])
    single = await Callers(asked["grpc"], audience, int(3000 * seconds * ROUNDS)).connect()
    batches = max(int(12_000 * seconds * ROUNDS), ROUNDS * 2 * CALLERS * BATCH)
    batched = await Callers(asked["grpc"], audience, batches).connect()
    flips = itertools.count()
    works: dict[str, Work] = {
        "registrations, one by one": lambda caller: single.register(caller, 1),
        "status updates": lambda caller: single.say(caller, next(flips) // CALLERS % 2 == 0),
        "heartbeats": single.beat,
        "lookups": single.look_up,
        f"registrations, in batches of {BATCH}": lambda caller: batched.register(caller, BATCH),
    }
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in works}
    beside: dict[str, list[dict[str, Any]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            beside[name].append(await bare(asked["bare"], seconds / 2, asked["bare_pid"]))
            measured[name].append(await rate(seconds, work, pids))
    found = {"bare unary calls": whole([one for rounds in beside.values() for one in rounds])}
    for name, rounds in measured.items():
        found[name] = whole(rounds) | {"bare": [one["per_second"] for one in beside[name]]}
    return found


if __name__ == "__main__":
    print(json.dumps(uvloop.run(main(json.loads(sys.argv[1])))))
