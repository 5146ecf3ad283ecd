"""One process of a testnet: started with a config, ready by its ready file, stopped, killed, paused.

The process is in a session of its own, so that Ctrl-C reaches the launcher alone, and dies with the launcher (shim).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from skywire_cli.failures import CliError
from skywire_cli.testnet import shim
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.state import Kind, ServiceState, Status

START_TIMEOUT = 30.0
# A service drains for 10 s at most; one that takes longer is killed.
STOP_GRACE = 15.0
CONFIG_FILE = "config.json"
READY_FILE = "ready.json"
# Of the environment's settings only the choice of event loop reaches the processes: the rest would overrule configs.
_OVERRULES = "SKYWIRE_"
_PASSED_ON = ("SKYWIRE_LOOP",)
_POLL = 0.02
_LOG_SHOWN = 2_000


class Service:
    """Start it, then read `interfaces` and `public_key`; `state` always says how it is."""

    def __init__(self, name: str, kind: Kind, module: str, directory: Path, on_change: Callable[[], None]) -> None:
        self.directory = directory
        # A module and its arguments that run the service's module, if it shall not run as it is.
        self.through: tuple[str, ...] = ()
        # What its environment has beside that of this process.
        self.environment: dict[str, str] = {}
        self._module = module
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._ended: asyncio.Task[None] | None = None
        self.state = ServiceState(name=name, kind=kind, log=str(directory / f"{name}.log"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.state.status})"

    @property
    def name(self) -> str:
        """Its name, which is also that of its directory."""
        return self.state.name

    @property
    def public_key(self) -> str:
        """Its public key in hex, known before it starts."""
        return self.state.public_key

    @property
    def interfaces(self) -> dict[str, str]:
        """Where it listens: host:port by name; empty until it was ready once."""
        return self.state.interfaces

    @property
    def pid(self) -> int:
        """Its process; raises CliError if it has none."""
        if self._process is None or self._process.returncode is not None:
            raise CliError("NOT_RUNNING", f"{self.name} does not run")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that it has written."""
        return Path(self.state.log).read_text(errors="replace")

    def configure(self, document: dict[str, Any]) -> None:
        """Write its config file; raises CliError if its directory is gone."""
        if not self.directory.is_dir():
            hint = "its key went with it: `skywire testnet down`, and `up` for a new one"
            raise CliError("FILE", f"{self.name} has no directory any more: {self.directory}", hint)
        (self.directory / CONFIG_FILE).write_text(json.dumps(document, indent=1) + "\n")

    async def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start it and wait until it says that it is ready; raises CliError with the end of its log."""
        ready = self.directory / READY_FILE
        ready.unlink(missing_ok=True)
        arguments = [sys.executable, "-m", *self.through, self._module, "--config", str(self.directory / CONFIG_FILE)]
        arguments += ["--ready-file", str(ready)]
        with self._open_log() as log:
            self._process = await asyncio.create_subprocess_exec(
                *shim_command(os.getpid()),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=_environment() | self.environment,
                start_new_session=True,
            )
        self.change(status=Status.STARTING, reason="", process=ProcessId.of(self._process.pid))
        self._ended = asyncio.create_task(self._watch(self._process), name=f"watch {self.name}")
        await self._until_ready(ready, timeout)

    async def stop(self, grace: float = STOP_GRACE) -> int | None:
        """Send SIGTERM, after `grace` seconds SIGKILL; return the exit code, None if it did not run."""
        process = self._process
        if process is None or process.returncode is not None:
            return None
        self.change(status=Status.STOPPING)
        process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(process.wait()), grace)
        await self.kill()
        return process.returncode

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
        if self._ended is not None:
            await self._ended

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def change(self, **changes: Any) -> None:
        """Note how it is now."""
        self.state = replace(self.state, **changes)
        self._on_change()

    async def _until_ready(self, ready: Path, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        while (interfaces := _read_ready(ready)) is None:
            if self._ended is None or self._ended.done():
                raise self._failed(f"{self.name} ended while starting: {self.state.reason}")
            if asyncio.get_running_loop().time() > deadline:
                raise self._failed(f"{self.name} was not ready within {timeout:.0f} s")
            await asyncio.sleep(_POLL)
        # The admin socket is where the config put it; the rest is what the process got.
        self.change(status=Status.READY, interfaces={**interfaces, **_admin_of(self.interfaces)})

    def _open_log(self) -> BinaryIO:
        return Path(self.state.log).open("ab")

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        reason = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        orderly = self.state.status is Status.STOPPING
        self.change(status=Status.STOPPED if orderly else Status.FAILED, reason=reason, process=None)

    def _failed(self, message: str) -> CliError:
        self.change(status=Status.FAILED, reason=message)
        end = self.log[-_LOG_SHOWN:]
        return CliError("START_FAILED", message, f"its log: {self.state.log}", {"log": end})


def _environment() -> dict[str, str]:
    """Return this process's environment without what would overrule the config file."""
    passed = (name for name in os.environ if not name.startswith(_OVERRULES) or name in _PASSED_ON)
    return {name: os.environ[name] for name in passed}


def _read_ready(path: Path) -> dict[str, str] | None:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return dict(document["interfaces"])


def _admin_of(interfaces: dict[str, str]) -> dict[str, str]:
    return {name: path for name, path in interfaces.items() if name == "admin"}


def shim_command(parent: int) -> list[str]:
    """Return the start of a command line whose process dies with the process `parent`."""
    return [sys.executable, "-I", "-S", shim.__file__, str(parent)]
