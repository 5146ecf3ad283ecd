"""Spans on their way to a collector that takes its time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from skywire_common.runtime import otel

# What the SDK takes out of the queue at once, and the least that a queue may hold.
BATCH = 512


class Slow(SpanExporter):
    """Take nothing until it is let go."""

    def __init__(self) -> None:
        self.taken = 0
        self.go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go.wait()
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def test_spans_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otel, "MAX_QUEUED", BATCH)
    slow = Slow()
    tracer = otel.OtelTracer("test", slow)
    try:
        for _ in range(2 * BATCH + 50):
            with tracer.calling("/a.B/C", bytes(16)):
                pass
    finally:
        slow.go.set()
        tracer.close()
    # One batch may be on its way already.
    assert BATCH <= slow.taken <= 2 * BATCH
