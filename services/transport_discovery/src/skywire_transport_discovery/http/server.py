"""uvicorn inside the service's loop: no signals of its own, bounded heads, an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from time import perf_counter
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Histogram
from skywire_common.rpc.tls import TlsFiles, watched_context
from skywire_common.runtime.listening import listening
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 16_384
MAX_CONNECTIONS = 1024
HEAD_S = 10.0
IDLE_S = 60
BACKLOG = 512

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Protocol(HttpToolsProtocol):
    """Refuses a head that is too long, and a connection that sends none."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head = 0
        self._deadline = asyncio.get_running_loop().call_later(HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._head > MAX_HEAD:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        self._deadline.cancel()
        super().on_headers_complete()
        self._head = -(1 << 62)  # what follows is the body, which the application bounds

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


class HttpServer:
    """The HTTP listener; made by `serve`."""

    def __init__(self, server: _Server, task: asyncio.Task[None], address: str) -> None:
        self._server = server
        self._task = task
        # "host:port"
        self.address = address

    async def close(self) -> None:
        """Take no more requests, answer those under way."""
        self._server.should_exit = True
        await self._task


async def serve(app: App, address: str, grace: float, tls: TlsFiles | None = None) -> HttpServer:
    """Serve an application on "host:port" (0: any free port); raises Failure if the address is taken, LocalError if
    the TLS files cannot be used.
    """
    context = None if tls is None else watched_context(tls)
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with listening(address):
        listener = socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    # A line for everything that is not HTTP would let strangers fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=int(grace) or None,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    await server.up.wait()
    return HttpServer(server, task, f"{host}:{listener.getsockname()[1]}")


class Later:
    """An application that is made when the first request comes, in a thread: FastAPI costs a quarter of a start."""

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._made: asyncio.Task[App] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._made is None:
            self._made = asyncio.create_task(asyncio.to_thread(self._make), name="make the HTTP application")
        # Whoever goes away meanwhile does not take it along.
        app = await asyncio.shield(self._made)
        await app(scope, receive, send)


class Counted:
    """Counts requests by method, route and status around an application."""

    def __init__(self, app: App, registry: CollectorRegistry) -> None:
        self._app = app
        self._handled = Counter("http_requests", "Requests answered.", ("method", "route", "code"), registry=registry)
        self._seconds = Histogram("http_request_seconds", "Seconds a request took.", ("route",), registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        began = perf_counter()
        code = "none"

        async def counting(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            # The template, not the path: what a peer can vary is no label.
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if route != "none" else "none"
            self._handled.labels(method, route, code).inc()
            self._seconds.labels(route).observe(perf_counter() - began)
