"""Two programs over plain TCP, through as many relays as asked for: what all ratios are taken against."""

from __future__ import annotations

from bench.control import Agent, Control
from bench.flows import Pair
from bench.processes import module, start
from bench.run import Run
from bench.yardsticks.relays import Relays, fastest, python


async def _agents(run: Run) -> tuple[Agent, Agent, int]:
    control = await Control.open(run)
    for role, name in (("serve", "tcp server"), ("dial", "tcp dialler")):
        await start(run, *module("agents.tcp", role, str(control.path), name))
    server = await control.agent("tcp server")
    return await control.agent("tcp dialler"), server, (await server.ask("address"))["port"]


async def through(run: Run, hops: int, relays: Relays | None = None) -> Pair:
    """Return the two programs with so many relays between them; the same ones every time."""
    dialler, server, port = await run.shared("tcp agents", lambda: _agents(run))
    made = relays or await fastest(run)
    first, pids = await run.shared(f"{made.name} relays, {hops}", lambda: made.chain(run, hops, port))
    return Pair(dialler, server, first, pids)


async def through_python(run: Run, hops: int) -> Pair:
    """Return the same with relays in Python."""
    return await through(run, hops, python())
