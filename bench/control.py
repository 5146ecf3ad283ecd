"""The runner's line to its agents: one JSON object per line over a unix socket, one question at a time.

An agent connects, says its name and pid, and answers what it is asked; it ends when the line does.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from bench.run import Run

SOCKET = "control.sock"
ANSWER_SECONDS = 60.0
START_SECONDS = 30.0
_LINE_LIMIT = 16 << 20


class AgentError(Exception):
    """An agent could not do what it was asked."""


class Agent:
    """A process at the other end of the line."""

    def __init__(self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = pid
        self._reader = reader
        self._writer = writer

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something and return what it says; raises AgentError."""
        self._writer.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._reader.readline()
        if not line:
            raise AgentError(f"the agent has gone while it was asked to {do}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise AgentError(f"{do}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the line."""
        self._writer.close()


class Control:
    """Where agents report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._agents: dict[str, asyncio.Future[Agent]] = {}

    @classmethod
    async def open(cls, run: Run) -> Control:
        """Return the run's control line."""
        return await run.shared("control", lambda: cls._open(run))

    @classmethod
    async def _open(cls, run: Run) -> Control:
        control = cls(run.directory / SOCKET)
        server = await asyncio.start_unix_server(control._greet, control.path, limit=_LINE_LIMIT)

        async def close() -> None:
            server.close()
            for expected in control._agents.values():
                if expected.done() and not expected.cancelled():
                    expected.result().close()

        run.defer(close)
        return control

    def _expected(self, name: str) -> asyncio.Future[Agent]:
        if name not in self._agents:
            self._agents[name] = asyncio.get_running_loop().create_future()
        return self._agents[name]

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = json.loads(await reader.readline())
        expected = self._expected(hello["name"])
        if expected.done():
            writer.close()
        else:
            expected.set_result(Agent(hello["pid"], reader, writer))

    async def agent(self, name: str) -> Agent:
        """Wait until an agent has reported; raises TimeoutError."""
        async with asyncio.timeout(START_SECONDS):
            return await asyncio.shield(self._expected(name))
