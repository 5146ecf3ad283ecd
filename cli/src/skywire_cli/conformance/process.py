"""An app as a process with its pipe on descriptors 3 and 4, started as a node starts it."""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import struct
import tempfile
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from skywire_common.app_rules import KEY_VARIABLE, NAME_VARIABLE, PASSED_ON, VERSION_VARIABLE
from skywire_common.keys import PublicKey

# The node's key, here: nobody has it.
OWN = PublicKey(b"\x02" + bytes(range(32)))
# The child's descriptors lie below.
_FIRST_OWN_FD = 10
_COUNT = struct.Struct("i")
_ENTER_AND_BECOME = 'cd "$1" || exit 126; shift; exec "$@"'
_OUTPUT = "output"
SHOWN_OUTPUT = 2_000
SMALL_PIPE = 4_096
PIPE_SIZE = 1 << 20


class Ended(Exception):
    """The app's end of the pipe is closed."""


class AppUnderTest:
    """A running app. `name` and `version` are what its executable is called: `{name}.v{version}`."""

    def __init__(
        self, program: Path, arguments: Sequence[str], name: str, version: str, *, small_pipe: bool = False
    ) -> None:
        """Start it in an empty directory; raises OSError. With `small_pipe` what it writes waits after 4 KiB."""
        self.folder = Path(tempfile.mkdtemp(prefix="skywire-conformance"))
        executable = self.folder / f"{name}.v{version}"
        executable.symlink_to(program.absolute())
        directory = self.folder / "work"
        directory.mkdir()
        opened: list[int] = []
        try:
            to_app, from_app = _pipe(opened), _pipe(opened)
            for fd, size in ((to_app[0], PIPE_SIZE), (from_app[0], SMALL_PIPE if small_pipe else PIPE_SIZE)):
                with suppress(PermissionError):
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
            null = _kept(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), opened)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            output = _kept(os.open(self.folder / _OUTPUT, flags, 0o600), opened)
            passed = {key: value for key, value in os.environ.items() if key in PASSED_ON or key.startswith("LC_")}
            told = {NAME_VARIABLE: name, VERSION_VARIABLE: version, KEY_VARIABLE: str(OWN)}
            moves = ((null, 0), (output, 1), (output, 2), (to_app[0], 3), (from_app[1], 4))
            self.pid = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _ENTER_AND_BECOME, "sh", str(directory), str(executable), *arguments],
                {**passed, **told},
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, source, target) for source, target in moves),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
            )
            self._to_app, self._from_app = to_app[1], from_app[0]
            for fd in (self._to_app, self._from_app):
                opened.remove(fd)
                os.set_blocking(fd, False)
        finally:
            for fd in opened:
                os.close(fd)
        self.exit: int | None = None

    def write(self, data: bytes | bytearray) -> int:
        """Write what the pipe takes now and return how much; raises Ended if the app reads no more."""
        try:
            return os.write(self._to_app, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError as error:
            raise Ended from error

    def read(self, most: int) -> bytes | None:
        """Read up to `most` bytes, None if there are none now; raises Ended at the end."""
        try:
            data = os.read(self._from_app, most)
        except BlockingIOError:
            return None
        if not data:
            raise Ended
        return data

    def wait(self, deadline: float, *, writing: bool = False, reading: bool = True) -> None:
        """Wait until there is something to read or room to write; raises TimeoutError at the deadline."""
        poll = select.poll()
        if reading:
            poll.register(self._from_app, select.POLLIN)
        if writing:
            poll.register(self._to_app, select.POLLOUT)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1_000):
            raise TimeoutError

    def unread(self) -> int:
        """Return how many bytes wait in the pipe for the app."""
        (count,) = _COUNT.unpack(fcntl.ioctl(self._to_app, termios.FIONREAD, bytes(_COUNT.size)))
        return int(count)

    def close_pipe(self) -> None:
        """Close the node's ends: the app sees the end of descriptor 3."""
        for fd in (self._to_app, self._from_app):
            if fd >= 0:
                os.close(fd)
        self._to_app = self._from_app = -1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the app and all that it started."""
        if self.exit is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def ended(self, within: float) -> bool:
        """Wait for the end of the process; say whether it came. `exit` is its code then, negative for a signal."""
        if self.exit is not None:
            return True
        pidfd = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(max(0.0, within) * 1_000):
                return False
        finally:
            os.close(pidfd)
        _, status = os.waitpid(self.pid, 0)
        self.exit = os.waitstatus_to_exitcode(status)
        return True

    def output(self) -> str:
        """Return the end of what the app printed."""
        return (self.folder / _OUTPUT).read_bytes()[-SHOWN_OUTPUT:].decode("utf-8", "replace")

    def close(self) -> None:
        """End it with all that it started, and remove its directory."""
        self.close_pipe()
        self.signal(signal.SIGKILL)
        self.ended(60.0)
        shutil.rmtree(self.folder, ignore_errors=True)


def _inheritable() -> list[int]:
    """Return descriptors over 4 that whoever started this command has left open for its children."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (names are wanted, not paths)
        # One that was the listing's own is closed by now.
        with suppress(OSError):
            if int(name) > 4 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    return _kept(ends[0], opened), _kept(ends[1], opened)


def _kept(fd: int, opened: list[int]) -> int:
    """Move a descriptor out of the child's way."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_OWN_FD)
    os.close(fd)
    opened.append(moved)
    return moved
