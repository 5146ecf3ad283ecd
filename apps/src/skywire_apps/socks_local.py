"""The proxy's near end: SOCKS5 with local programs, a channel on the loop to the exit for each of their connections."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from skywire_app import Addr, App, ErrorCode, Failure, IncompleteRead
from skywire_common.errors import DecodeError

from skywire_apps import socks
from skywire_apps.exit import ask
from skywire_apps.exit_wire import Code, Do, Refused, Request
from skywire_apps.listener import listen, say_listening, tcp_server
from skywire_apps.mux.trunk import Trunk
from skywire_apps.relay import explain, relay, reset
from skywire_apps.report import Report
from skywire_apps.socks import Command, Login, Method, SocksRequest, Status, Target
from skywire_apps.socks_udp import associate

HANDSHAKE_TIMEOUT_S = 15.0

_STATUS = {
    Code.DENIED: Status.DENIED,
    Code.UNKNOWN_NAME: Status.HOST_UNREACHABLE,
    Code.NET_UNREACHABLE: Status.NET_UNREACHABLE,
    Code.HOST_UNREACHABLE: Status.HOST_UNREACHABLE,
    Code.REFUSED: Status.REFUSED,
    Code.TIMEOUT: Status.TTL_EXPIRED,
    Code.UNSUPPORTED: Status.UNSUPPORTED_COMMAND,
}
_FAILED_DIAL = {
    ErrorCode.PORT_CLOSED: Status.REFUSED,
    ErrorCode.NO_ROUTE: Status.NET_UNREACHABLE,
    ErrorCode.DEADLINE: Status.TTL_EXPIRED,
}

P = TypeVar("P")


@dataclass(frozen=True)
class SocksConfig:
    """Where the proxy listens, which exit it uses, who may use it (everybody who can connect if `login` is None)."""

    exit: Addr
    listen: str
    login: Login | None
    connections: int
    idle: float


class _Client:
    """One local program's connection, as long as it speaks SOCKS5: what came and was not read yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.rest = b""

    async def read(self, parse: Callable[[bytes], tuple[P, int] | None]) -> P:
        """Return the next message; raises DecodeError, EOFError, OSError."""
        while (found := parse(self.rest)) is None:
            if len(self.rest) > socks.MAX_MESSAGE:
                raise DecodeError("a message longer than SOCKS5 has")
            part = await self._reader.read(socks.MAX_MESSAGE)
            if not part:
                raise EOFError("the program has left")
            self.rest += part
        self.rest = self.rest[found[1] :]
        return found[0]

    def say(self, message: bytes) -> None:
        """Answer."""
        self._writer.write(message)


class SocksProxy:
    """Serve local programs by way of one exit."""

    def __init__(self, config: SocksConfig, report: Report) -> None:
        self._config = config
        self._report = report

    async def run(self, name: str, version: str) -> None:
        """Serve until the node says stop; raises Failure if the node goes away."""
        config = self._config
        async with App.setup(name, version) as app, Trunk(app, config.exit, self._report) as self._trunk:
            await listen(
                app,
                lambda handler: tcp_server(config.listen, handler),
                self.handle,
                config.connections,
                lambda server: say_listening(self._report, server, "SOCKS5"),
            )

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one program's connection."""
        client = _Client(reader, writer)
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._log_in(client)
                request = await client.read(socks.parse_request)
        except (DecodeError, EOFError, OSError, TimeoutError) as error:
            self._tell("a local program", str(error) or "no request came")
            await _close(writer)
            return
        status, cause = await self._serve(client, request, reader, writer)
        if cause:
            self._tell(f"{request.target.host}:{request.target.port}", cause)
        if status is not None and not writer.is_closing():
            client.say(socks.encode_reply(status))
        await _close(writer)

    async def _log_in(self, client: _Client) -> None:
        methods = await client.read(socks.parse_greeting)
        wanted = Method.NONE if self._config.login is None else Method.PASSWORD
        if wanted not in methods:
            client.say(socks.encode_choice(Method.NO_ACCEPTABLE))
            raise DecodeError("this proxy wants user and password" if wanted else "the program insists on a password")
        client.say(socks.encode_choice(wanted))
        if self._config.login is None:
            return
        said = await client.read(socks.parse_login)
        # Both are compared whole, so that the time tells nothing.
        right = hmac.compare_digest(said.user, self._config.login.user)
        right &= hmac.compare_digest(said.password, self._config.login.password)
        client.say(socks.encode_verdict(right))
        if not right:
            raise DecodeError("wrong user or password")

    async def _serve(
        self, client: _Client, request: SocksRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Status | None, str]:
        """Return how it failed: the reply that is still owed (None: none is) and the reason."""
        owed: Status | None = None
        replied = False
        error = ""

        def reply(target: Target) -> None:
            nonlocal replied
            replied = True
            client.say(socks.encode_reply(Status.OK, target))

        try:
            if request.command == Command.CONNECT:
                async with self._trunk.stream() as stream:
                    answer = await ask(stream, Request(Do.CONNECT, *request.target))
                    reply(Target(answer.host, answer.port))
                    await relay(stream, reader, writer, self._config.idle, client.rest)
            elif request.command == Command.UDP_ASSOCIATE:
                async with self._trunk.stream() as stream:
                    await ask(stream, Request(Do.UDP))
                    await associate(stream, request.target, reader, writer, self._config.idle, reply)
            else:
                owed, error = Status.UNSUPPORTED_COMMAND, f"command {request.command} is not supported"
        except Refused as refused:
            owed, error = _STATUS.get(refused.code, Status.FAILED), f"the exit refused: {refused}"
        except Failure as failure:
            owed, error = _FAILED_DIAL.get(failure.code, Status.FAILED), explain(failure)
        except TimeoutError:
            owed, error = Status.TTL_EXPIRED, "the exit was not reached in time"
        except (DecodeError, IncompleteRead) as broken:
            owed, error = Status.FAILED, str(broken)
        except OSError as broken:
            owed, error = Status.FAILED, str(broken)
        return (None if replied else owed), error

    def _tell(self, target: str, error: str) -> None:
        self._report.line(f"{target}: {error}", target=target, error=error)


async def _close(writer: asyncio.StreamWriter) -> None:
    """End a local connection after what was said; reset it if the program does not read."""
    if writer.is_closing():
        return
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            with suppress(OSError):
                await writer.drain()
                writer.close()
    except TimeoutError:
        reset(writer)
