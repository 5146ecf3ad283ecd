"""One process of an app: spawned into a group of its own, watched by a pidfd, killed with all that it started.

The process gets descriptors 0 to 4 and no others: 0 is /dev/null, 1 and 2 go to the node's log, 3 and 4 are its pipe
(docs/wire-format.md, App pipe). `posix_spawn` has no working directory, so a constant line of `sh` changes into it and
becomes the app; paths and arguments are its parameters, never its text.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from skywire_common.app_rules import PASSED_ON

from skywire_node.apps.orphans import MARK_VARIABLE, Orphans

PIPE_SIZE = 1 << 20
# Descriptors below this one are the child's.
_FIRST_OWN_FD = 10
_SHELL = "/bin/sh"
_ENTER_AND_BECOME = 'cd "$1" || exit 126; shift; exec "$@"'


class Exit(NamedTuple):
    """How a process ended: by itself with `code`, or by a signal."""

    code: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit code {self.code}"
        try:
            return signal.Signals(self.signal).name
        except ValueError:
            return f"signal {self.signal}"

    @property
    def in_order(self) -> bool:
        """Whether the process ended by itself and well."""
        return self.code == 0


class AppProcess:
    """A running process; the three descriptors are the node's ends and belong to whoever spawned it."""

    def __init__(self, pid: int, from_app: int, to_app: int, output: int, orphans: Orphans) -> None:
        self.pid = pid
        self._orphans = orphans
        self.from_app = from_app
        self.to_app = to_app
        self.output = output
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._ending: asyncio.Task[None] | None = None
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def __repr__(self) -> str:
        return f"AppProcess(pid {self.pid}, {self.exited.result() if self.exited.done() else 'running'})"

    @classmethod
    def spawn(
        cls,
        executable: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        orphans: Orphans,
    ) -> AppProcess:
        """Start a process; raises OSError. `orphans` ends with it what it leaves."""
        opened: list[int] = []
        try:
            to_app = _pipe(opened)
            from_app = _pipe(opened)
            output = _pipe(opened)
            null = _above(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), opened)
            moves = ((null, 0), (output[1], 1), (output[1], 2), (to_app[0], 3), (from_app[1], 4))
            actions = [(os.POSIX_SPAWN_DUP2, source, target) for source, target in moves]
            actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]  # type: ignore[misc]
            mark = orphans.mark()
            with orphans.spawning:
                pid = os.posix_spawn(
                    _SHELL,
                    ["sh", "-c", _ENTER_AND_BECOME, "sh", str(directory), str(executable), *arguments],
                    {**_environment(environment), MARK_VARIABLE: mark},
                    file_actions=actions,
                    setpgroup=0,
                    setsigmask=[],
                    setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                )
                orphans.began(pid, mark)
            ends = (from_app[0], to_app[1], output[0])
            for fd in ends:
                os.set_blocking(fd, False)
                opened.remove(fd)
            return cls(pid, *ends, orphans)
        finally:
            for fd in opened:
                os.close(fd)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started; one that ended is no matter."""
        if not self.exited.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _reap(self) -> None:
        info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        # Before the process is reaped its number, and so its group's, cannot belong to another.
        self.send(signal.SIGKILL)
        by_itself = info.si_code == os.CLD_EXITED
        ended = Exit(info.si_status, None) if by_itself else Exit(None, info.si_status)
        self._ending = asyncio.get_running_loop().create_task(self._end(ended), name=f"end of process {self.pid}")

    async def _end(self, ended: Exit) -> None:
        """End what the process has left, then reap it and tell."""
        try:
            await self._orphans.ended(self.pid)
        finally:
            self._reaped(ended)

    def _reaped(self, ended: Exit) -> None:
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        os.close(self._pidfd)
        self._orphans.reaped(self.pid)
        if not self.exited.done():
            self.exited.set_result(ended)


def _pipe(opened: list[int]) -> tuple[int, int]:
    """Make a pipe of 1 MiB, or of what the system gives; both ends stay out of the child's way."""
    ends = os.pipe2(os.O_CLOEXEC)
    pair = (_above(ends[0], opened), _above(ends[1], opened))
    # A user's pipes may be large only up to a sum (pipe-user-pages-soft); a small one works as well.
    with suppress(PermissionError):
        fcntl.fcntl(pair[0], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return pair


def _above(fd: int, opened: list[int]) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_FD)
    os.close(fd)
    opened.append(moved)
    return moved


def _inheritable() -> list[int]:
    """Return descriptors over 4 that some library left open for children."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (names are wanted, not paths)
        fd = int(name)
        with suppress(OSError):
            if fd > 4 and os.get_inheritable(fd):
                found.append(fd)
    return found


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the app's environment: a few common variables of the node's, none of its settings, and the app's own."""
    passed = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**passed, **own}
