"""Make a process slow: it runs a part of each second and stands still for the rest (SIGSTOP, SIGCONT)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from skywire_cli.testnet.identity import ProcessId

_SECOND = 1.0


async def dawdle(process: ProcessId, runs: float) -> None:
    """Let a process run `runs` of each second until cancelled or until it is gone; then it runs as before."""
    try:
        while process.alive:
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(_SECOND - runs)
            if process.alive:
                os.kill(process.pid, signal.SIGCONT)
            await asyncio.sleep(runs)
    finally:
        if process.alive:
            os.kill(process.pid, signal.SIGCONT)


def processes_of(app: str) -> Iterator[ProcessId]:
    """Yield the processes of an app by the name that a node starts it by, `{app}.v{version}`, as far as /proc shows."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it is gone, or somebody else's
        if any(Path(os.fsdecode(word)).name.startswith(f"{app}.v") for word in words[:2]):
            found = ProcessId.of(int(place.name))
            if found is not None:
                yield found
