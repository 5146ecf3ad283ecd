"""A small HTTP/1.1 server for one page on this machine: h11 reads and writes, every part bounded.

It serves programs of this machine's user and nobody else. A request is refused unless its Host is the address that is
served (a name that leads here, DNS rebinding, is not), and unless its Origin, if it names one, is that address as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import h11

MAX_BODY = 64 << 10
MAX_QUERY = 16
MAX_CONNECTIONS = 64
# A browser that says nothing for so long is gone; it connects again.
IDLE_S = 60.0
_READ_SIZE = 16 << 10

_COMMON = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)


@dataclass(frozen=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One answer: a body, or parts as they come; with parts the connection is over afterwards."""

    status: HTTPStatus
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    parts: AsyncGenerator[bytes, None] | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())


Handler = Callable[[Request], Awaitable[Reply]]


class _Refused(Exception):
    """A request that is not answered by the handler."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def plain(status: HTTPStatus, text: str) -> Reply:
    """Return an answer of one line."""
    return Reply(status, body=text.encode() + b"\n")


class Site:
    """Answer browsers; `authorities` is what they may call this place, host:port, nothing before that is known."""

    def __init__(self, handler: Handler) -> None:
        self.authorities: frozenset[str] = frozenset()
        self._handler = handler

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, then close it."""
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._one(connection, reader, writer):
                connection.start_next_cycle()
        except (ConnectionError, TimeoutError):
            # It has gone, or says nothing: nobody waits for an answer.
            return
        finally:
            writer.close()

    async def _one(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; False if the connection is over then."""
        try:
            async with asyncio.timeout(IDLE_S):
                request = await self._read(connection, reader)
            if request is None:
                return False
            self._check(request)
            reply = await self._handler(request)
        except h11.RemoteProtocolError as error:
            reply = plain(HTTPStatus(error.error_status_hint), "this is no request")
        except _Refused as refused:
            reply = plain(refused.status, str(refused))
        await _write(connection, reader, writer, reply)
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(_READ_SIZE))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY:
                    raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MAX_BODY} bytes are taken")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None

    def _check(self, request: Request) -> None:
        if request.headers.get("host") not in self.authorities:
            raise _Refused(HTTPStatus.MISDIRECTED_REQUEST, "this page is not served under that name")
        origin = request.headers.get("origin")
        if origin is not None and origin.removeprefix("http://") not in self.authorities:
            raise _Refused(HTTPStatus.FORBIDDEN, "other pages have no business here")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise _Refused(HTTPStatus.FORBIDDEN, "other pages have no business here")


def _request(head: h11.Request, body: bytes) -> Request:
    # A second Host or Origin would let one be checked and another be meant.
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key = name.decode("ascii")
        headers[key] = f"{headers[key]}, {value.decode('latin-1')}" if key in headers else value.decode("latin-1")
    try:
        url = urlsplit(head.target.decode("ascii"))
        query = dict(parse_qsl(url.query, max_num_fields=MAX_QUERY))
    except ValueError as error:
        raise _Refused(HTTPStatus.BAD_REQUEST, "this is no address") from error
    return Request(head.method.decode("ascii"), url.path, query, headers, body)


async def _write(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: Reply
) -> None:
    async def put(event: h11.Event) -> None:
        writer.write(connection.send(event) or b"")
        async with asyncio.timeout(IDLE_S):
            await writer.drain()

    async def follow(parts: AsyncGenerator[bytes, None]) -> None:
        async with aclosing(parts):
            async for part in parts:
                await put(h11.Data(data=part))

    headers = [*_COMMON, ("content-type", reply.content_type), *reply.headers]
    if reply.parts is None:
        headers.append(("content-length", str(len(reply.body))))
    else:
        headers.append(("connection", "close"))
    await put(h11.Response(status_code=reply.status, headers=headers))
    if reply.parts is None:
        await put(h11.Data(data=reply.body))
    else:
        # A page that is closed says no more: its events end then, and not when the next one would come.
        gone = asyncio.ensure_future(reader.read(1))
        following = asyncio.ensure_future(follow(reply.parts))
        try:
            await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, following):
                task.cancel()
            await asyncio.gather(gone, following, return_exceptions=True)
        if following.cancelled():
            raise ConnectionResetError("the page has gone")
        following.result()
    await put(h11.EndOfMessage())
