"""P11: a node is ready, the CLI answers."""

from __future__ import annotations

import asyncio
import sys
import time

from bench.figures import Figure, at_most
from bench.network import line
from bench.processes import environment
from bench.run import Bench, Run

NODES = 3


async def measure(run: Run) -> list[Figure]:
    """Restart the middle node, then ask the CLI; an empty Python beside."""
    three = await line(run, NODES)
    node = three.net.nodes[1]
    ready, answers, empty = [], [], []
    for _ in range(run.rounds):
        empty.append(await _timed(sys.executable, "-c", "pass"))
        await node.close_admin()
        await node.stop()
        began = time.monotonic()
        await three.net.restart(node)
        ready.append(time.monotonic() - began)
        await three.net.connected()
        answers.append(
            await _timed(sys.executable, "-m", "skywire_cli", "node", "summary", "--socket", str(node.socket))
        )
    name = "python -c pass"
    return [
        Figure("node: from its start until it is ready", "s", ready, at_most(1.5), name, empty),
        Figure("CLI: node summary", "s", answers, at_most(0.2), name, empty),
    ]


async def _timed(*command: str) -> float:
    """Return the seconds that a program takes."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment()
    )
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command}: {said.decode()}")
    return time.monotonic() - began


BENCHES = (Bench("P11", "start: node ready, CLI answer", measure),)
