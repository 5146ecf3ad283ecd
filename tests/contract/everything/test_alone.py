"""Every service alone, its neighbours played: every case of every RPC, and none without a case; who may call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from contract.discovery.runner import CASES as CASES_OVER_HTTP
from contract.everything.casebook import BOOKS, services, who
from contract.everything.running import refusals, run
from contract.everything.targets import ADMIN, CONTROL, DISCOVERY, LINK, PROCESS, SETUP, Targets, alone
from skywire_common.rpc import process
from skywire_node.control import service as control
from skywire_node.owner import admin
from skywire_setup_node import service as setup_node
from skywire_transport_discovery import service as discovery

PLACES = [
    *(("discovery", service) for service in (*DISCOVERY, PROCESS)),
    *(("node", service) for service in (CONTROL, ADMIN, LINK, PROCESS)),
    ("played node", CONTROL),
    *(("setup node", service) for service in (SETUP, PROCESS)),
]
CASES = [(place, case) for place in PLACES for case in BOOKS[place[1]]["cases"]]


@pytest.fixture(scope="module")
async def targets(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Targets]:
    import shutil
    import tempfile
    from pathlib import Path

    short = Path(tempfile.mkdtemp(prefix="sw"))
    async with alone(tmp_path_factory.mktemp("alone"), short) as found:
        yield found
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.parametrize(
    ("place", "case"), CASES, ids=[f"{place[0]}-{place[1].rpartition('.')[2]}-{case['name']}" for place, case in CASES]
)
async def test_case(place: tuple[str, str], case: dict[str, Any], targets: Targets) -> None:
    target = targets[place]
    if target.runs(case):
        await run(place[1], case, target)


def test_every_case_runs_somewhere(targets: Targets) -> None:
    idle = [
        case["name"]
        for service, book in BOOKS.items()
        for case in book["cases"]
        if not any(target.runs(case) for (_, name), target in targets.items() if name == service)
    ]
    assert not idle


def test_every_rpc_of_every_proto_has_a_case() -> None:
    assert BOOKS.keys() == services().keys()
    for service, methods in services().items():
        book = BOOKS[service]
        called = {step["call"] for case in book["cases"] for step in case["steps"]}
        assert called == set(methods), service
        assert book["access"].keys() == set(methods), service


def test_the_cases_say_who_may_call_as_the_services_do() -> None:
    tables = control.ACCESS | admin.ACCESS | setup_node.ACCESS | discovery.ACCESS | process.ACCESS
    for service, book in BOOKS.items():
        for method in book["access"]:
            path = f"/{service}/{method}"
            if service != LINK:
                assert tables[path] is who(book, method), path


@pytest.mark.parametrize("place", PLACES, ids=[f"{one}-{service.rpartition('.')[2]}" for one, service in PLACES])
async def test_who_may_not_call_is_refused(place: tuple[str, str], targets: Targets) -> None:
    assert await refusals(place[1], targets[place]) == []


async def test_a_wrong_answer_is_found(targets: Targets) -> None:
    for wrong in (
        {"call": "GetBuildInfo", "expect": {"service": "skywire-pigeon"}},
        {"call": "GetBuildInfo", "error": "NOT_FOUND"},
        {"call": "GetLogLevel", "over_tcp": True},
    ):
        with pytest.raises(AssertionError, match="step 1"):
            await run(PROCESS, {"steps": [wrong]}, targets["discovery", PROCESS])


async def test_every_http_endpoint_of_the_discovery_has_a_case(targets: Targets) -> None:
    # The cases of tests/contract/discovery speak in verbs; over HTTP each is one endpoint, and "http" names its own.
    verbs = {
        "nonce": "/security/nonces/{pk}",
        "get": "/transports/id:{t_id}",
        "list": "/transports/edge:{pk}",
        "register": "/transports/",
        "say": "/statuses",
    }
    over_http = [case for case in CASES_OVER_HTTP if case.get("only", "http") == "http"]
    steps = [step for case in over_http for step in case["steps"]]
    covered = {verbs[step["do"]] for step in steps if step["do"] in verbs}
    covered |= {step["path"] for step in steps if step["do"] == "http"}
    async with httpx.AsyncClient() as client:
        schema = (await client.get(f"http://{targets['discovery', PROCESS].known['http']}/openapi.json")).json()
    assert schema["paths"].keys() <= covered
