"""Processes that a bench starts: none outlives it, and each is asked what CPU it used."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from skywire_cli.testnet.process import shim_command

from bench.run import Run

ROOT = Path(__file__).parent.parent
_GRACE = 3.0


async def start(
    run: Run, *command: str, stdout: int = asyncio.subprocess.DEVNULL, ending: signal.Signals = signal.SIGTERM
) -> asyncio.subprocess.Process:
    """Start a program that ends with the run, by the signal `ending`, and with this process however that ends."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *shim_command(os.getpid()),
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            cwd=run.directory,
            env=environment(),
            start_new_session=True,  # Ctrl-C is the runner's business
        )
    )
    interrupted = False
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        interrupted = True  # a process that is half started has to be ended too
        process = await starting

    async def end() -> None:
        with suppress(ProcessLookupError):
            process.send_signal(ending)
        try:
            await asyncio.wait_for(process.wait(), _GRACE)
        except TimeoutError:
            process.kill()
            await process.wait()

    run.defer(end)
    if interrupted:
        raise asyncio.CancelledError
    return process


def environment() -> dict[str, str]:
    """Return the environment in which `python -m bench...` works from any directory."""
    path = os.pathsep.join(part for part in (str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path}


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of one of this package's programs."""
    return (sys.executable, "-m", f"bench.{name}", *arguments)


def cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds that each process has used so far."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: used.user + used.system for name, used in times.items()}


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what each process used between two calls of `cpu`."""
    return {name: round(after[name] - before[name], 3) for name in before}


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0: this one."""
    return int(psutil.Process(pid or None).memory_info().rss)
