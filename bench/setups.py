"""P6: how long a loop takes to set up, and how many a second one setup node serves."""

from __future__ import annotations

import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from skywire_cli.testnet.network import Testnet

from bench.agents.line import quantile
from bench.figures import Figure, at_least, at_most
from bench.network import line
from bench.processes import cpu, used
from bench.run import Bench, Run

NODES = 3
AT_ONCE = 16
# On the machine that the targets were set on (docs/performance.md).
REFERENCE_CALL_MS = 0.53


async def measure(run: Run) -> list[Figure]:
    """Dial one after the other, then many at once; a bare gRPC call beside."""
    three = await line(run, NODES)
    pair = three.pair(NODES)
    ours, bare, rates, per_setup = [], [], [], {}
    for _ in range(run.rounds):
        bare.append(await _bare_call(three.net, 100 if run.quick else 300))
        ours.append(await pair.open(30 if run.quick else 150))
        before = cpu({**pair.pids, **three.services})
        answer = await pair.dialler.ask("open_many", to=pair.to, at_once=AT_ONCE, seconds=2 * run.seconds)
        spent = used(before, cpu({**pair.pids, **three.services}))
        rates.append(answer["opened"] / answer["seconds"])
        per_setup = {name: seconds / max(answer["opened"], 1) * 1e3 for name, seconds in spent.items()}
        failures = answer["failures"]
    shown = ", ".join(f"{name} {spent:.1f} ms" for name, spent in per_setup.items())
    name = "bare unary gRPC call p50"
    return [
        Figure("set-up p50", "ms", [p50 for p50, _ in ours], at_most(15), name, bare, reference=REFERENCE_CALL_MS),
        Figure("set-up p99", "ms", [p99 for _, p99 in ours], at_most(50), name, bare),
        Figure(
            f"set-ups, {AT_ONCE} at once",
            "/s",
            rates,
            at_least(100),
            details={"CPU per set-up": shown, "refused": str(failures or "none")},
        ),
        Figure("set-ups per CPU second of the setup node", "/s", [1e3 / per_setup["setup-node1"]]),
    ]


async def _bare_call(net: Testnet, count: int) -> float:
    """Return the median time of a health check on the setup node, the least that a call can be; ms."""
    samples = []
    async with grpc.aio.insecure_channel(net.setup_nodes[0].interfaces["grpc"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for _ in range(count):
            began = time.perf_counter()
            await stub.Check(health_pb2.HealthCheckRequest())
            samples.append((time.perf_counter() - began) * 1e3)
    return quantile(samples, 0.5)


BENCHES = (Bench("P6", "loop set-up over three nodes, all services up", measure),)
