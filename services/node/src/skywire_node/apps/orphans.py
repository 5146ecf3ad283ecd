"""What an app has started and left behind: found by a mark in its environment, or as a child that nobody knows.

An app's process group is killed with it. What has left the group (setsid, a double fork) still bears the mark that
every process inherits; whoever has cleared its environment as well is a child of the node once its parent is gone:
the node is the subreaper of all that it starts (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

MARK_VARIABLE = "SKYWIRE_APP_RUN"
# A process may start another while it is killed; who does so again and again is met at the next end of an app.
MAX_ROUNDS = 16
_PR_SET_CHILD_SUBREAPER = 36
_MAX_ENVIRONMENT = 1 << 20


class Orphans:
    """The processes of one node's apps. With `adopts` all children of this process are apps' or their orphans.

    Going through all processes takes as long as there are many: it is done in a thread, beside the packets. Whoever
    spawns holds `spawning` until the run is noted; what becomes of one process is decided under the same lock.
    """

    def __init__(self, *, adopts: bool = False) -> None:
        self.spawning = threading.Lock()
        self._adopts = adopts
        # By the process that its owner waits for; None once the run is over and the process not yet reaped.
        self._runs: dict[int, bytes | None] = {}
        if adopts:
            # Without it (another kernel, a sandbox) orphans are found by their mark alone.
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    @staticmethod
    def mark() -> str:
        """Make the mark of one run."""
        return f"{os.getpid()}-{secrets.token_hex(8)}"

    def began(self, pid: int, mark: str) -> None:
        """Note a run whose process is waited for by its owner, who holds `spawning`."""
        self._runs[pid] = mark.encode()

    async def ended(self, pid: int) -> None:
        """End what a run has left, after its own process has ended and before it is reaped."""
        await asyncio.to_thread(self._end, pid)

    def reaped(self, pid: int) -> None:
        """Note that a run's process is reaped: its number may be another's from now on."""
        with self.spawning:
            del self._runs[pid]

    async def sweep(self) -> None:
        """Reap orphans that have ended, and end those that bear no running app's mark; for a node that adopts."""
        if self._adopts:
            await asyncio.to_thread(self._sweep)

    def _end(self, pid: int) -> None:
        mark = self._runs[pid]
        killed = {pid}
        for _ in range(MAX_ROUNDS):
            found = {left for left in _processes() if left not in killed and _kill_if_marked(left, mark)}
            if not found:
                break
            killed |= found
        self._runs[pid] = None
        if self._adopts:
            self._sweep()

    def _sweep(self) -> None:
        own = os.getpid()
        for pid in _processes():
            with self.spawning:
                if pid not in self._runs and _parent(pid) == own:
                    self._sweep_up(pid)

    def _sweep_up(self, pid: int) -> None:
        marked = _mark(pid)
        if marked is not None and marked not in self._runs.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # One that was just killed is reaped by the next sweep.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _processes() -> Iterator[int]:
    for name in os.listdir("/proc"):  # noqa: PTH208 (names are wanted, not paths)
        if name.isdigit():
            yield int(name)


def _kill_if_marked(pid: int, mark: bytes | None) -> bool:
    """Kill a process if it bears the mark; the number cannot come to belong to another in between."""
    if _mark(pid) != mark:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if _mark(pid) != mark:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(pidfd)
    return True


def _mark(pid: int) -> bytes | None:
    """Return a process's mark, empty if it has none; None if it has ended or is somebody else's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (some hundreds of these, at each end of an app)
            environment = file.read(_MAX_ENVIRONMENT)
    except OSError:
        return None
    if not environment:
        return None if _state(pid) in ("Z", "X", "") else b""
    name = MARK_VARIABLE.encode() + b"="
    return next((word[len(name) :] for word in environment.split(b"\0") if word.startswith(name)), b"")


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
