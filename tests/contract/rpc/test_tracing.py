"""OpenTelemetry: one trace per set-up, from the node over the setup node to every hop; nothing unless asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from contract.setup_node.network import Network
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from skywire_cli.keygen import write_key_file
from skywire_common.errors import Failure
from skywire_common.rpc import tracing
from skywire_common.runtime import otel
from skywire_common.runtime.config import ConfigError, load
from skywire_setup_node.config import SetupNodeSettings

SETUP = "skywire.setup_node.v1.SetupNode"
CONTROL = "skywire.node.v1.NodeControl"


@pytest.fixture
async def spans() -> AsyncIterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracer = otel.begin("test", exporter)
    try:
        yield exporter
    finally:
        tracing.trace_with(None)
        tracer.close()


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    made = Network(tmp_path)
    await made.begin()
    yield made
    await made.end()


def finished(exporter: InMemorySpanExporter) -> list[Any]:
    assert tracing._tracer is not None
    tracing._tracer._provider.force_flush()  # type: ignore[attr-defined]
    return list(exporter.get_finished_spans())


async def test_a_set_up_is_one_trace_of_all_who_took_part(network: Network, spans: InMemorySpanExporter) -> None:
    request = network.creating()
    await network.call(request)
    found = finished(spans)
    assert {span.attributes[otel.SETUP_ID] for span in found} == {request.setup_id.hex()}
    assert len({span.context.trace_id for span in found}) == 1
    by_id = {span.context.span_id: span for span in found}
    [root] = [span for span in found if span.parent is None]
    assert (root.name, root.kind) == (f"{SETUP}/CreateLoop", SpanKind.CLIENT)
    served = [span for span in found if span.kind is SpanKind.SERVER]
    assert {span.name for span in served} == {
        f"{SETUP}/CreateLoop",
        *(f"{CONTROL}/{name}" for name in ("ReserveRouteIds", "AddRules", "ConfirmLoop")),
    }
    for span in served:
        # Each was called by the span of whoever called it, and a hop's caller by the setup node's.
        caller = by_id[span.parent.span_id]
        assert (caller.kind, caller.name) == (SpanKind.CLIENT, span.name)
        if span.name.startswith(CONTROL):
            assert by_id[caller.parent.span_id].name == f"{SETUP}/CreateLoop"
    nodes = len(network.nodes)
    assert sum(span.name == f"{CONTROL}/ReserveRouteIds" for span in served) == nodes
    assert all(span.status.status_code is not StatusCode.ERROR for span in found)


async def test_a_failure_is_told_by_its_code_alone(network: Network, spans: InMemorySpanExporter) -> None:
    request = network.creating()
    request.initiator.public_key = bytes(network.nodes[0].public_key)
    with pytest.raises(Failure) as caught:
        await network.call(request)
    found = finished(spans)
    assert {span.status.description for span in found} == {caught.value.code.value}
    assert not any(span.events for span in found)


async def test_without_it_nothing_is_sent_and_nothing_loaded(network: Network) -> None:
    assert tracing._tracer is None
    await network.call(network.creating())
    # Not asked of the discovery: its FastAPI loads the API of tracing by itself.
    code = (
        "import sys, skywire_node.node, skywire_setup_node.serving, skywire_common.runtime.service;"
        " print({'opentelemetry', 'skywire_common.runtime.otel'} & {*sys.modules})"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


def settings(tmp_path: Path, **more: Any) -> SetupNodeSettings:
    key = tmp_path / "secret.key"
    public = write_key_file(key) if not key.exists() else "02" * 33
    file = tmp_path / "config.json"
    import json

    document = {"secret_key_file": str(key), "transport_discovery": {"address": "127.0.0.1:1", "public_key": public}}
    file.write_text(json.dumps(document | more))
    return load(SetupNodeSettings, file)


def test_spans_leave_this_machine_over_tls_unless_said_otherwise(tmp_path: Path) -> None:
    assert settings(tmp_path).tracing == ""
    assert not settings(tmp_path, tracing="http://127.0.0.1:4317").exposed()
    assert not settings(tmp_path, tracing="https://collector.example:4317").exposed()
    with pytest.raises(ConfigError, match="tracing"):
        settings(tmp_path, tracing="http://collector.example:4317")
    assert settings(tmp_path, tracing="http://collector.example:4317", plain_text=True).exposed()
    for wrong in ("collector:4317", "http://collector", "ftp://x:1"):
        with pytest.raises(ConfigError, match="tracing"):
            settings(tmp_path, tracing=wrong)


async def test_a_collector_gets_them_over_otlp(network: Network) -> None:
    got: list[str] = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:
            got.extend(span.name for of in request.resource_spans for s in of.scope_spans for span in s.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    tracer = otel.begin("skywire-test", otel.to_collector(f"http://127.0.0.1:{port}"))
    try:
        await network.call(network.creating())
        await asyncio.to_thread(tracer.close)
    finally:
        tracing.trace_with(None)
        await asyncio.to_thread(server.stop(0).wait)
    assert f"{SETUP}/CreateLoop" in got and f"{CONTROL}/AddRules" in got
