"""A process that stays the same process: a pid alone may name another one tomorrow.

A process is named by its pid and its start time (/proc/PID/stat, field 22). Signals go through a pidfd that was
opened before the start time was compared, so they reach that process or nobody.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from skywire_common.errors import LocalError


class ProcessId(NamedTuple):
    """`start_ticks` is when it started, in clock ticks after boot."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """Name a running process; None if there is none, zombies included."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def this(cls) -> ProcessId:
        """Name the running process itself."""
        started = _start_time(os.getpid())
        if started is None:
            raise LocalError("/proc is not mounted: a testnet needs Linux")
        return cls(os.getpid(), started)

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        return _start_time(self.pid) == self.start_ticks

    def end(self, grace: float) -> bool:
        """Send SIGTERM, after `grace` seconds SIGKILL; returns whether there was something to end. Blocks."""
        with self._pidfd() as pidfd:
            if pidfd is None:
                return False
            for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
                try:
                    signal.pidfd_send_signal(pidfd, number)
                except ProcessLookupError:
                    return True
                if select.select([pidfd], [], [], wait)[0]:
                    return True
        return True

    def kill(self) -> None:
        """Send SIGKILL, to this process or to nobody."""
        with self._pidfd() as pidfd:
            if pidfd is not None:
                try:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                except ProcessLookupError:
                    return

    @contextmanager
    def _pidfd(self) -> Iterator[int | None]:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            yield None
            return
        with closing(os.fdopen(pidfd, "rb", buffering=0)):
            yield pidfd if self.alive else None


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in brackets and may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])
