"""The discovery alone, over the wire, against its proto and its HTTP API: every case on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import httpx
import pytest
import sqlalchemy
from contract.discovery import runner
from contract.discovery.targets import GrpcTarget, HttpTarget, Keys, Refused
from discovery_process import DiscoveryProcess
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "skywire-2019.json").read_text())
PACKAGE = "skywire.transport_discovery.v1"
Grpcurl = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize("case", runner.CASES, ids=[case["name"] for case in runner.CASES])
async def test_case(case: dict[str, Any], target: GrpcTarget | HttpTarget) -> None:
    if runner.applies(case, target):
        await runner.run(case, target)


async def test_the_runner_finds_a_wrong_answer(target: GrpcTarget | HttpTarget) -> None:
    wrong = {"steps": [{"do": "register", "by": "a", "entries": ["a-b"]}, {"do": "list", "of": "a", "expect": []}]}
    with pytest.raises(AssertionError, match="step 2"):
        await runner.run(wrong, target)


def test_golden_signed_requests_are_accepted(discovery: DiscoveryProcess) -> None:
    from skywire_common.keys import PublicKey
    from skywire_transport_discovery.http import auth

    for vector in VECTORS["http_auth"]:
        headers = {"SW-Public": vector["public_key"], "SW-Nonce": str(vector["nonce"]), "SW-Sig": vector["signature"]}
        signed = auth.check(headers, vector["body"].encode())
        assert signed == (PublicKey.parse(vector["public_key"]), vector["nonce"])
        # Over the wire the signature is right and the nonce is not: the original's client asks for it and tries again.
        answer = httpx.post(f"http://{discovery.http}/transports/", content=vector["body"], headers=headers)
        assert answer.status_code in (400, 401)


async def test_golden_entries_are_registered_and_read_back_to_the_byte(discovery: DiscoveryProcess) -> None:
    from skywire_common.curve import SecretKey

    target = HttpTarget(discovery.http)
    for vector in VECTORS["signed_entries"]:
        secret = SecretKey.parse(vector["secret_a"])
        answer = await target.send("POST", "/transports/", f"[{vector['json']}]".encode(), secret)
        [registered] = answer.json()
        at = registered["registered"]
        assert answer.content == f'[{vector["json"][:-1]},"registered":{at}}}]'.encode()
        entry = json.loads(vector["json"])["entry"]
        answer = await target.send("GET", f"/transports/id:{entry['t_id']}")
        wanted = {"entry": entry, "is_up": False, "registered": at, "statuses": [False, False]}
        assert answer.content == json.dumps(wanted, separators=(",", ":")).encode()
    await target.close()


async def test_another_transport_under_the_same_id_is_refused(
    discovery: DiscoveryProcess, target: GrpcTarget | HttpTarget
) -> None:
    keys = Keys()
    taken, fresh = keys.signed("a-b"), keys.signed("a-c")
    await target.register(keys["a"], [taken])
    url = json.loads(discovery.config.read_text())["database_url"].replace("+aiosqlite", "")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as db:
        # As if somebody had found two transports with one id, and registered the other one first.
        db.execute(
            sqlalchemy.text("UPDATE transports SET kind = 'other' WHERE id = :id"),
            {"id": taken.entry.transport_id.bytes},
        )
    engine.dispose()
    with pytest.raises(Refused) as refused:
        await target.register(keys["a"], [fresh, taken])
    assert refused.value.code == ("CONFLICT" if isinstance(target, GrpcTarget) else 409)
    if isinstance(target, HttpTarget):
        said = f"another transport is registered as {taken.entry.transport_id}; none of this request was registered"
        assert refused.value.body == {"error": said}
        assert await target.nonce(keys["a"].public) == 1, "what is refused leaves the nonce alone"
    assert [one["t_id"] for one in await target.list(keys["c"].public)] == []


async def test_routes_say_of_which_revision_they_are_and_how_old(discovery: DiscoveryProcess) -> None:
    target, keys = GrpcTarget(discovery.grpc, discovery.public), Keys()
    signed = keys.signed("a-b")
    await target.register(keys["a"], [signed])
    await target.say(keys["a"], [(signed.entry.transport_id, True)])
    request = pb.GetTransportRequest(transport_id=signed.entry.transport_id.bytes, with_history=True)
    logged = await target.call("TransportDiscovery/GetTransport", request, pb.GetTransportResponse)
    asked = pb.FindRoutesRequest(from_key=keys["a"].public, to_key=keys["b"].public)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Refused):  # until the replica has read its log
                found = await target.call("RouteFinder/FindRoutes", asked, pb.FindRoutesResponse)
                break
    assert found.revision >= logged.history[-1].revision > 0
    assert found.age_ms < 60_000
    await target.close()


async def test_a_node_s_days_tell_the_share_of_time_that_it_was_online(discovery: DiscoveryProcess) -> None:
    target, keys = GrpcTarget(discovery.grpc, discovery.public), Keys()
    request = pb.ResolveNodeRequest(public_key=keys["a"].public, with_days=True)
    await target.beat(keys["a"], 7)
    *_, day = (await target.call("NodeDirectory/ResolveNode", request, pb.ResolveNodeResponse)).days
    assert abs(day.day - time.time() // 86_400) <= 1
    await target.beat(keys["a"], 7)
    await target.beat(keys["a"], 7, stopping=True)
    *_, later = (await target.call("NodeDirectory/ResolveNode", request, pb.ResolveNodeResponse)).days
    assert later.online_ms > day.online_ms
    assert 0 < later.share <= 1
    await target.close()


def test_grpcurl_lists_describes_and_calls(discovery: DiscoveryProcess, grpcurl: Grpcurl) -> None:
    listed = grpcurl(discovery.grpc, "list").stdout.split()
    for service in ("TransportDiscovery", "NodeDirectory", "RouteFinder"):
        assert f"{PACKAGE}.{service}" in listed
    described = grpcurl(discovery.grpc, "describe", f"{PACKAGE}.RouteFinder.FindRoutes")
    assert "FindRoutesRequest" in described.stdout, described.stderr
    status = json.loads(grpcurl(discovery.grpc, f"{PACKAGE}.TransportDiscovery/GetStatus").stdout)
    assert status["database_ok"]
    assert status["schema"] == status["schema_wanted"]
    health = grpcurl("-d", f'{{"service": "{PACKAGE}.NodeDirectory"}}', discovery.grpc, "grpc.health.v1.Health/Check")
    assert json.loads(health.stdout) == {"status": "SERVING"}
    unknown = grpcurl("-d", "{}", discovery.grpc, f"{PACKAGE}.NodeDirectory/RegisterNode")
    assert "Unauthenticated" in unknown.stderr


def test_http_shows_its_schema_health_and_metrics(discovery: DiscoveryProcess) -> None:
    base = f"http://{discovery.http}"
    schema = httpx.get(f"{base}/openapi.json").json()
    assert set(schema["paths"]) == {
        "/security/nonces/{pk}",
        "/transports/id:{t_id}",
        "/transports/edge:{pk}",
        "/transports/",
        "/statuses",
        "/health",
        "/metrics",
    }
    docs = httpx.get(f"{base}/docs")
    assert docs.status_code == 200
    assert all(path in docs.text for path in schema["paths"])
    assert not re.search(r"https?:|src=|//", docs.text), "it works where there is no other host"
    assert httpx.get(f"{base}/health").json() == {"status": "serving"}
    shown = httpx.get(f"{base}/metrics").text
    for name in (
        "grpc_server_handled_total",
        "http_requests_total",
        "skywire_discovery_graph_nodes",
        "skywire_discovery_graph_transports",
        "skywire_discovery_graph_age_seconds",
        "skywire_discovery_leases_ended_total",
        "skywire_discovery_database_connections",
        "skywire_discovery_database_connections_max",
        "process_open_fds",
    ):
        assert re.search(rf"^{name}(\{{|\s)", shown, re.MULTILINE), name
    assert re.search(r'^http_requests_total\{.*code="200".*route="/health".*\} [1-9]', shown, re.MULTILINE)
