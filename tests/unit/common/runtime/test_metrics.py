"""Metrics over HTTP: one page, bounded, whatever is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from skywire_common.errors import ErrorCode, Failure
from skywire_common.runtime import metrics
from skywire_common.runtime.metrics import MAX_CONNECTIONS, MAX_REQUEST, MetricsServer, Readings


@pytest.fixture
def registry() -> CollectorRegistry:
    return metrics.new_registry()


@pytest.fixture
async def server(registry: CollectorRegistry) -> AsyncIterator[MetricsServer]:
    made = await metrics.serve(registry, "127.0.0.1:0")
    yield made
    await made.close()


async def ask(server: MetricsServer, request: bytes) -> bytes:
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    return answer


async def test_metrics_are_shown(server: MetricsServer, registry: CollectorRegistry) -> None:
    counter = Counter("things", "Things.", registry=registry)
    counter.inc(3)
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{server.address}/metrics?name[]=x")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert "things_total 3.0" in answer.text
        assert "process_resident_memory_bytes" in answer.text
        assert "things_created" not in answer.text
        assert (await client.get(f"http://{server.address}/")).status_code == 404
        assert (await client.post(f"http://{server.address}/metrics")).status_code == 405


async def test_plain_numbers_are_read_when_somebody_looks(server: MetricsServer, registry: CollectorRegistry) -> None:
    drops = {"no_rule": 1}
    Readings(registry, "drops", "Packets dropped, by reason.", lambda: drops, label="reason")
    Readings(registry, "links", "Links, by state.", lambda: {"up": 2}, label="state", gauge=True)
    drops["no_rule"] = 7
    shown = (await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")).decode()
    assert 'drops_total{reason="no_rule"} 7.0' in shown
    assert 'links{state="up"} 2.0' in shown


@pytest.mark.parametrize("request_", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics\r\n\r\n"])
async def test_what_is_no_http_is_told(server: MetricsServer, request_: bytes) -> None:
    assert (await ask(server, request_)).startswith(b"HTTP/1.1 400")


async def test_a_request_is_bounded(server: MetricsServer) -> None:
    assert await ask(server, b"x" * (2 * MAX_REQUEST)) == b""
    assert (await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_slow_request_is_bounded(server: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "REQUEST_S", 0.05)
    assert await ask(server, b"GET /metr") == b""


async def test_connections_are_bounded(server: MetricsServer) -> None:
    host, port = server.address.split(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CONNECTIONS)]
    assert await ask(server, b"") == b"", "one more is closed at once"
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(20):
        while not (await ask(server, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            await asyncio.sleep(0.01)


async def test_a_taken_port_is_said(server: MetricsServer, registry: CollectorRegistry) -> None:
    with pytest.raises(Failure) as caught:
        await metrics.serve(registry, server.address)
    assert caught.value.code is ErrorCode.CONFLICT
    assert server.address in caught.value.cause


@given(st.binary(max_size=100))
def test_any_head_gets_a_response(head: bytes) -> None:
    assert metrics.answer(CollectorRegistry(), head).startswith(b"HTTP/1.1 ")
