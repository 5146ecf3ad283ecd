"""One shell or command of an SSH connection, with a terminal or without.

The process leads a session of its own; opening its terminal as the first thing there makes it the controlling one, so
nothing has to run between fork and exec. A client that leaves has the session hung up, and killed a second later.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import signal
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
from skywire_common.app_rules import PASSED_ON

CHUNK = 32 << 10
# A terminal that its background keeps open is left after so long a silence; after SIGHUP a session may live so long.
LINGER_S = 1.0
_MAX_ENV = 4_096
# Python ignores these; programs expect them as they are by default.
_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)

Process = asyncssh.SSHServerProcess[bytes]


class Session:
    """Run the process that a client asks for, as the user of this process."""

    def __init__(self, process: Process, shell: Path | None, remote: str) -> None:
        self._process = process
        self._shell = str(shell or pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh")
        self._remote = remote
        self._master = -1
        self._said = 0

    async def run(self) -> None:
        """Run it to its end, and tell the client how it ended."""
        process = self._process
        try:
            if process.term_type is None:
                await self._plain()
            else:
                await self._terminal(process.term_type)
        except (asyncssh.Error, OSError) as error:
            # Of the process, whose start may fail, or of a client that is gone.
            with suppress(asyncssh.Error, OSError):
                process.stderr.write(f"{self._shell}: {error}\n".encode())
                process.exit(126)

    async def _plain(self) -> None:
        stdin, to_child = os.pipe()
        from_out, stdout = os.pipe()
        from_err, stderr = os.pipe()
        try:
            pid = self._spawn([(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((stdin, stdout, stderr))], None)
        except OSError:
            for fd in (to_child, from_out, from_err):
                os.close(fd)
            raise
        finally:
            for fd in (stdin, stdout, stderr):
                os.close(fd)
        async with _writing(to_child) as writer, _reading(from_out) as out, _reading(from_err) as err:
            said = (self._copy(out, self._process.stdout), self._copy(err, self._process.stderr))
            await self._until_over(pid, writer, said)

    async def _terminal(self, term: str) -> None:
        self._master, slave = os.openpty()
        try:
            self._resize(self._process.term_size)
            name = os.ttyname(slave)
            opened = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
            pid = self._spawn([*opened, *((os.POSIX_SPAWN_DUP2, 0, fd) for fd in (1, 2))], term)
        except OSError:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        async with _reading(os.dup(self._master)) as out, _writing(self._master) as writer:
            await self._until_over(pid, writer, (self._copy(out, self._process.stdout),))

    def _spawn(self, actions: Sequence[Any], term: str | None) -> int:
        command = self._process.command
        # A dash before its name makes a login shell.
        words = [self._shell, "-c", command] if command else [f"-{Path(self._shell).name}"]
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        env |= {
            name: value
            for name, value in self._process.env.items()
            if (name == "LANG" or name.startswith("LC_")) and len(name) + len(value) < _MAX_ENV
        }
        env |= {"SHELL": self._shell, "SKYWIRE_REMOTE": self._remote}
        if term is not None:
            env["TERM"] = term
        return os.posix_spawn(self._shell, words, env, file_actions=actions, setsid=True, setsigdef=_SIGNALS)

    async def _until_over(self, pid: int, writer: asyncio.StreamWriter, said: Sequence[Any]) -> None:
        """Carry what goes in and out until the process or the client's channel has ended."""
        process = self._process
        ended = asyncio.ensure_future(_ended(pid))
        left = asyncio.ensure_future(process.wait_closed())
        typing = asyncio.ensure_future(self._type(pid, writer))
        saying = {asyncio.ensure_future(one) for one in said}
        try:
            await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done() and not left.done():
                await self._until_said(saying, left)
                status = os.waitstatus_to_exitcode(ended.result())
                if status < 0:
                    process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
                else:
                    process.exit(status)
        finally:
            tasks = {left, typing, *saying}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _end(pid, ended)

    async def _until_said(self, saying: set[asyncio.Future[None]], left: asyncio.Future[None]) -> None:
        """Wait for the end of all that is said; not for a terminal that something in the background keeps open."""
        linger = None if self._process.term_type is None else LINGER_S
        over: asyncio.Future[Any] = asyncio.ensure_future(asyncio.wait(saying))
        before = -1
        while before != self._said and not over.done() and not left.done():
            before = self._said if linger is not None else -1
            await asyncio.wait((over, left), timeout=linger, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
        """Carry what the process says; a terminal that nobody holds any more ends in EIO."""
        with suppress(OSError):
            while part := await reader.read(CHUNK):
                writer.write(part)
                await writer.drain()
                self._said += len(part)

    async def _type(self, pid: int, writer: asyncio.StreamWriter) -> None:
        """Carry what the client types, its signals and the size of its window."""
        while True:
            try:
                part = await self._process.stdin.read(CHUNK)
            except asyncssh.TerminalSizeChanged as changed:
                self._resize(changed.term_size)
                continue
            except asyncssh.SignalReceived as received:
                with suppress(KeyError, ProcessLookupError):
                    os.killpg(pid, signal.Signals[f"SIG{received.signal}"])
                continue
            except asyncssh.BreakReceived:
                continue
            if not part:
                break
            writer.write(part)
            await writer.drain()
        if self._process.term_type is None:
            writer.close()

    def _resize(self, size: tuple[int, int, int, int]) -> None:
        if self._master >= 0:
            columns, rows, width, height = (min(max(number, 0), 0xFFFF) for number in size)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


async def _ended(pid: int) -> int:
    """Wait for the process and return its wait status."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
        return os.waitpid(pid, 0)[1]  # noqa: ASYNC222 (it has ended)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _end(pid: int, ended: asyncio.Future[int]) -> None:
    """Hang the session up and wait for it; kill it if it goes on."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        if ended.done():
            return
        with suppress(ProcessLookupError):
            os.killpg(pid, number)
        await asyncio.wait({ended}, timeout=LINGER_S if number is signal.SIGHUP else None)


@asynccontextmanager
async def _reading(fd: int) -> AsyncIterator[asyncio.StreamReader]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    file = os.fdopen(fd, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    try:
        yield reader
    finally:
        transport.close()


@asynccontextmanager
async def _writing(fd: int) -> AsyncIterator[asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    file = os.fdopen(fd, "wb", buffering=0)
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, file)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        yield writer
    finally:
        # What the process has not read is dropped. A pipe that has closed by itself must not be aborted: asyncio's
        # transport raises then, and the whole connection would end with this one session.
        if transport.get_write_buffer_size():
            transport.abort()
        else:
            transport.close()
