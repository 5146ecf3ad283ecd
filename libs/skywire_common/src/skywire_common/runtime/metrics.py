"""Metrics of one process in a registry of its own, and the HTTP server that shows them.

The server runs in the service's loop instead of a thread: whatever is counted in plain integers is read between two
steps of the loop, never in the middle of one. It answers GET /metrics and nothing else.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from skywire_common.rpc.tls import TlsFiles, watched_context
from skywire_common.runtime.listening import listening

# Set by whoever builds an image.
REVISION_VARIABLE = "SKYWIRE_REVISION"
MAX_CONNECTIONS = 32
MAX_REQUEST = 8192
REQUEST_S = 5.0


def new_registry() -> CollectorRegistry:
    """Return a registry that knows the process: memory, CPU, descriptors, garbage, Python's version."""
    # A time stamp beside every counter doubles what is scraped, and nobody reads it.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def show_build(registry: CollectorRegistry, service: str, distribution: str) -> None:
    """Export what is running: 1, with the words as labels, to be joined to other metrics."""
    info = Gauge(
        "skywire_build_info", "What is running.", ("service", "version", "python", "revision"), registry=registry
    )
    version = importlib.metadata.version(distribution)
    info.labels(service, version, platform.python_version(), os.environ.get(REVISION_VARIABLE, "")).set(1)


class Readings(Collector):
    """Plain numbers of the program, read when somebody looks: to count a packet costs no more than an addition."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        read: Callable[[], Mapping[str, float]],
        *,
        label: str = "",
        gauge: bool = False,
    ) -> None:
        """Export `read()`, label value to number, under `name`; a counter's name gets `_total` by itself.

        Without a label `read()` has one number, under any key. All numbers of one name are of one unit, which stands
        in the name.
        """
        self._name = name
        self._text = text
        self._read = read
        self._labels = [label] if label else []
        self._family = GaugeMetricFamily if gauge else CounterMetricFamily
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Name the family without reading."""
        return [self._family(self._name, self._text, labels=self._labels)]

    def collect(self) -> Iterable[Metric]:
        """Read now."""
        family = self._family(self._name, self._text, labels=self._labels)
        for value, number in self._read().items():
            family.add_metric([value] if self._labels else [], number)
        return [family]


class MetricsServer:
    """The HTTP server; made by `serve`."""

    def __init__(self, server: asyncio.Server, connections: set[asyncio.StreamWriter], host: str) -> None:
        self._server = server
        self._connections = connections
        # "host:port"
        self.address = f"{host}:{server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening and end the connections."""
        self._server.close()
        for writer in list(self._connections):
            writer.close()
        await self._server.wait_closed()


async def serve(registry: CollectorRegistry, address: str, tls: TlsFiles | None = None) -> MetricsServer:
    """Serve GET /metrics on "host:port" (0: any free port); raises Failure if the address is taken, LocalError if the
    TLS files cannot be used.
    """
    connections: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(connections) >= MAX_CONNECTIONS:
            writer.close()
            return
        connections.add(writer)
        try:
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(answer(registry, head))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asks so slowly, so little or so much gets no answer, and nobody else waits for it.
            pass
        finally:
            connections.discard(writer)
            writer.close()

    host, _, port = address.rpartition(":")
    context = None if tls is None else watched_context(tls)
    with listening(address):
        server = await asyncio.start_server(connected, host.strip("[]"), int(port), limit=MAX_REQUEST, ssl=context)
    loop = asyncio.get_running_loop()
    text = "Tasks of the event loop; the answer to this question takes one itself."
    Readings(registry, "skywire_event_loop_tasks", text, lambda: {"": len(asyncio.all_tasks(loop))}, gauge=True)
    return MetricsServer(server, connections, host)


def answer(registry: CollectorRegistry, head: bytes) -> bytes:
    """Return the whole response to a request's head."""
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != len(("method", "target", "version")):
        return _response("400 Bad Request", "text/plain", b"not HTTP\n")
    method, target, _ = parts
    if target.split(b"?")[0] != b"/metrics":
        return _response("404 Not Found", "text/plain", b"only /metrics is here\n")
    if method != b"GET":
        return _response("405 Method Not Allowed", "text/plain", b"only GET is served\n")
    return _response("200 OK", CONTENT_TYPE_LATEST, generate_latest(registry))


def _response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
