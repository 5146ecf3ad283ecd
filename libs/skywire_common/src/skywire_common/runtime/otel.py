"""Spans of loops' set-ups for an OpenTelemetry collector: what `tracing` in a service's configuration turns on.

A trace is one set-up: the node's call of the setup node, that one's calls of every node on the routes, and how each was
served, all with the set-up id as attribute, which is also in every log line of it. The context travels as `traceparent`
in the metadata of gRPC (W3C Trace Context); it is not signed, and means nothing to anybody but the collector. Spans are
sent by a thread of their own, in batches; if nobody takes them, they are dropped.

Needs the extra `otel`; this module is imported by no service that is not told to trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from skywire_common.errors import Failure
from skywire_common.rpc import tracing
from skywire_common.rpc.tracing import Metadata

SETUP_ID = "skywire.setup_id"
# Spans that wait to be sent; more are dropped.
MAX_QUEUED = 2_048
# How long the end of a service waits for the last ones to be sent.
FLUSH_MS = 1_000
_CONTEXT = TraceContextTextMapPropagator()


class OtelTracer:
    """Spans of one service; see tracing.Tracer."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({"service.name": service}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED))
        self._tracer = self._provider.get_tracer("skywire")

    @contextmanager
    def calling(self, path: str, setup_id: bytes) -> Iterator[Metadata]:
        """Span a call that is made; yields its context as metadata."""
        with self._span(path, setup_id, SpanKind.CLIENT):
            carrier: dict[str, str] = {}
            _CONTEXT.inject(carrier)
            yield tuple(carrier.items())

    @contextmanager
    def serving(self, path: str, setup_id: bytes, metadata: Metadata) -> Iterator[None]:
        """Span a call that is served."""
        texts = {key: value for key, value in metadata if isinstance(value, str)}
        with self._span(path, setup_id, SpanKind.SERVER, texts):
            yield

    @contextmanager
    def _span(
        self, path: str, setup_id: bytes, kind: SpanKind, carrier: dict[str, str] | None = None
    ) -> Iterator[Span]:
        service, _, method = path.removeprefix("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, SETUP_ID: setup_id.hex()}
        with self._tracer.start_as_current_span(
            f"{service}/{method}",
            context=None if carrier is None else _CONTEXT.extract(carrier),
            kind=kind,
            attributes=attributes,
            record_exception=False,  # what an error says of the network is for the log
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Failure as failure:
                span.set_status(Status(StatusCode.ERROR, failure.code.value))
                raise
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def close(self) -> None:
        """Send what waits, and end the thread; blocks for FLUSH_MS at most."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def begin(service: str, exporter: SpanExporter) -> OtelTracer:
    """Trace this process from now on."""
    tracer = OtelTracer(service, exporter)
    tracing.trace_with(tracer)
    return tracer


def to_collector(endpoint: str) -> SpanExporter:
    """Return what sends spans to a collector, "http://host:4317" or "https://…", over OTLP.

    The environment's OTEL_EXPORTER_OTLP_CERTIFICATE, _HEADERS and so on are in force, as everywhere.
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
