"""Chains of relays: in C if there is a compiler, else socat, else Python; and always Python ones beside them."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.processes import module, start
from bench.run import Run

_SOURCE = Path(__file__).parent / "relay.c"
_PORT_SECONDS = 10.0


@dataclass(frozen=True)
class Relays:
    """How relays are made here; `name` is what the report says."""

    name: str
    command: tuple[str, ...]

    async def chain(self, run: Run, hops: int, port: int) -> tuple[int, dict[str, int]]:
        """Put so many relays in front of a port; return the first one's port and the pid of each."""
        pids = {}
        for hop in range(hops, 0, -1):
            port, pids[f"relay{hop}"] = await self._relay(run, port)
        return port, pids

    async def _relay(self, run: Run, to: int) -> tuple[int, int]:
        if self.name == "socat":
            return await _socat(run, self.command[0], to)
        process = await start(run, *self.command, "127.0.0.1", str(to), stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(_PORT_SECONDS):
            return int(await process.stdout.readline()), process.pid


async def fastest(run: Run) -> Relays:
    """Return the relays that every ratio is taken against."""
    return await run.shared("relays", lambda: _fastest(run))


async def _fastest(run: Run) -> Relays:
    if compiler := shutil.which("cc"):
        program = run.directory / "relay"
        compiling = await asyncio.create_subprocess_exec(
            compiler, "-O2", "-pthread", "-o", str(program), str(_SOURCE), stderr=asyncio.subprocess.DEVNULL
        )
        if await compiling.wait() == 0:
            return Relays("C", (str(program),))
    if socat := shutil.which("socat"):
        return Relays("socat", (socat,))
    return python()


def python() -> Relays:
    """Return relays in plain Python on uvloop."""
    return Relays("Python", module("yardsticks.relay"))


async def _socat(run: Run, socat: str, to: int) -> tuple[int, int]:
    """Start socat and wait until it says its port (its log has no other form for port 0)."""
    process = await asyncio.create_subprocess_exec(
        socat,
        "-d",
        "-d",
        "-b",
        "65536",
        "TCP-LISTEN:0,bind=127.0.0.1,fork,nodelay",
        f"TCP:127.0.0.1:{to},nodelay",
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )

    async def end() -> None:
        process.terminate()
        await process.wait()

    run.defer(end)
    assert process.stderr is not None
    async with asyncio.timeout(_PORT_SECONDS):
        while b"listening on" not in (line := await process.stderr.readline()):
            if not line:
                raise RuntimeError("socat ended at once")
    return int(line.rpartition(b":")[2]), process.pid
