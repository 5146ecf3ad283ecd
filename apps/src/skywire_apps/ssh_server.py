"""SSH at the far end of a stream, by asyncssh: shells, commands, scp, sftp, forwarded ports.

asyncssh wants a socket: each stream is joined to one half of a pair. Before SSH begins the server sends an Answer
(exit_wire), so that who may not log in is told why.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from pathlib import Path

import asyncssh
from skywire_app import App, Failure, PublicKey, Stream
from skywire_common.errors import DecodeError, LocalError

from skywire_apps import exit_wire as wire
from skywire_apps.exit_wire import Answer, Code, Refused
from skywire_apps.relay import Traffic, relay
from skywire_apps.report import Report
from skywire_apps.ssh_session import Session

HOST_KEY = "ssh_host_ed25519_key"
MAX_AUTHORIZED = 1 << 20
# Shells and commands of one connection at once.
MAX_SESSIONS = 32
KEEPALIVE_S = 30.0
# Then sessions are hung up.
STOP_GRACE_S = 0.5


class _Server(asyncssh.SSHServer):
    """Who may what: the node's key was checked before, so nobody is asked for anything else."""

    def __init__(self, forwarding: bool) -> None:
        self._forwarding = forwarding

    def begin_auth(self, _username: str) -> bool:
        """Let everybody in who got this far, whatever user name they give."""
        return False

    def connection_requested(self, _dest_host: str, _dest_port: int, _orig_host: str, _orig_port: int) -> bool:
        """Connect from here (ssh -L, -D)."""
        return self._forwarding

    def server_requested(self, _listen_host: str, _listen_port: int) -> bool:
        """Listen here (ssh -R)."""
        return self._forwarding


class _Files(asyncssh.SFTPServer):
    """The files of this user, for sftp and scp."""

    def exit(self) -> None:
        """Say that all went well: OpenSSH's scp takes an end without a status for a failure."""
        # The client may have gone first.
        with suppress(OSError):
            self.channel.exit(0)


class ShellServer:
    """Serve logins from authorised nodes."""

    def __init__(
        self,
        nodes: frozenset[PublicKey],
        authorized: Path | None,
        shell: Path | None,
        forwarding: bool,
        most: int,
        report: Report,
    ) -> None:
        self._nodes = nodes
        self._authorized = authorized.absolute() if authorized is not None else None
        self._shell = shell
        self._forwarding = forwarding
        self._most = most
        self._report = report
        self._open = 0

    async def run(self, name: str, version: str) -> None:
        """Serve until the node says stop; raises Failure if the node goes away, LocalError."""
        self._read_authorized()
        self._key = host_key(Path(HOST_KEY))
        async with App.setup(name, version) as app:
            # Shells and sftp begin where people expect to be.
            with suppress(OSError):
                os.chdir(Path.home())
            await app.serve(self.take, STOP_GRACE_S)

    async def take(self, stream: Stream) -> None:
        """Serve one login."""
        self._open += 1
        try:
            self._check(stream.remote.public_key)
            stream.write(wire.encode(Answer(ok=True)))
            self._report.line(f"login from {stream.remote}", remote=str(stream.remote))
            await self._serve(stream)
        except (Refused, LocalError) as refused:
            self._report.line(f"refused {stream.remote}: {refused}", remote=str(stream.remote), error=str(refused))
            code = refused.code if isinstance(refused, Refused) else Code.FAILED
            with suppress(Failure):
                stream.write(wire.encode(Answer(ok=False, error=str(refused)[: wire.MAX_ERROR], code=code)))
                await stream.drain()
        finally:
            self._open -= 1

    def _check(self, node: PublicKey) -> None:
        if node not in self._nodes and node not in self._read_authorized():
            raise Refused(Code.DENIED, f"node {node} may not log in here: its operator has to add it with --node")
        if self._open > self._most:
            raise Refused(Code.LIMIT, f"{self._most} logins are open here")

    def _read_authorized(self) -> frozenset[PublicKey]:
        if self._authorized is None:
            return frozenset()
        try:
            with self._authorized.open() as file:
                return parse_authorized(file.read(MAX_AUTHORIZED + 1))
        except (OSError, UnicodeError, DecodeError) as error:
            raise LocalError(f"{self._authorized}: {error}") from error

    async def _serve(self, stream: Stream) -> None:
        ours, theirs = socket.socketpair()
        try:
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        carrying = asyncio.ensure_future(relay(stream, reader, writer, 0))
        sessions: set[asyncio.Task[None]] = set()

        async def session(process: asyncssh.SSHServerProcess[bytes]) -> None:
            task = asyncio.current_task()
            if task is None or len(sessions) >= MAX_SESSIONS:
                process.stderr.write(b"too many sessions on this connection\n")
                process.exit(255)
                return
            sessions.add(task)
            try:
                await Session(process, self._shell, str(stream.remote)).run()
            finally:
                sessions.discard(task)

        connection: asyncssh.SSHServerConnection | None = None
        try:
            connection = await asyncssh.run_server(
                theirs,
                server_factory=lambda: _Server(self._forwarding),
                server_host_keys=[self._key],
                process_factory=session,
                sftp_factory=_Files,
                encoding=None,
                agent_forwarding=False,
                x11_forwarding=False,
                keepalive_interval=KEEPALIVE_S,
                line_editor=False,
            )
            await connection.wait_closed()
        except (asyncssh.Error, OSError) as error:
            self._report.line(f"login from {stream.remote}: {error}", remote=str(stream.remote), error=str(error))
        finally:
            if connection is not None:
                connection.abort()
            theirs.close()
            for task in sessions:
                task.cancel()
            if sessions:
                await asyncio.wait(set(sessions))
            await _over(carrying)


async def _over(carrying: asyncio.Future[Traffic]) -> None:
    """Let what was said last go out, then end."""
    await asyncio.wait({carrying}, timeout=STOP_GRACE_S)
    if not carrying.done():
        carrying.cancel()
        await asyncio.wait({carrying})


def host_key(path: Path) -> asyncssh.SSHKey:
    """Return this server's key, made when it first runs; raises LocalError."""
    try:
        if not path.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(key.export_private_key())
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        raise LocalError(f"the host key {path}: {error}; remove the file to have a new one made") from error


def parse_authorized(text: str) -> frozenset[PublicKey]:
    """Read keys, one a line, with comments; raises DecodeError that names the line."""
    if len(text) > MAX_AUTHORIZED:
        raise DecodeError(f"more than {MAX_AUTHORIZED} characters")
    keys = set()
    for number, line in enumerate(text.splitlines(), start=1):
        word = line.partition("#")[0].strip()
        if word:
            try:
                keys.add(PublicKey.parse(word.lower()))
            except DecodeError as error:
                raise DecodeError(f"line {number}: {error}") from error
    return frozenset(keys)
