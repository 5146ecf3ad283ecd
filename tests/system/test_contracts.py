"""The contract cases against a whole testnet, by the runner for any address; and the grpcurl lines of the docs."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.discovery import runner as discovery_runner
from contract.discovery.targets import GrpcTarget, HttpTarget
from contract.everything.__main__ import check, key_of
from contract.everything.targets import deployed
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Topology, plan
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey

ROOT = Path(__file__).resolve().parents[2]
GRPCURL = Path(sys.executable).parent / "grpcurl"


@pytest.fixture(scope="module")
async def testnet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Testnet]:
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="sw"))
    async with Testnet(plan(2, Topology.LINE), root) as net:
        yield net
    shutil.rmtree(root, ignore_errors=True)


async def test_every_case_that_can_holds_on_a_testnet(testnet: Testnet, capsys: pytest.CaptureFixture[str]) -> None:
    state = testnet.state
    node = testnet.nodes[0]
    interfaces = {service.name: service.interfaces for service in state.services}
    places = {
        "discovery": interfaces[testnet.discovery.name]["grpc"],
        "setup_node": interfaces[testnet.setup_nodes[0].name]["grpc"],
        "control": interfaces[node.name]["control"],
    }
    audiences = {name: await key_of(address) for name, address in places.items()}
    places["admin"] = f"unix:{interfaces[node.name]['admin'].removeprefix('unix:')}"
    trusted = SecretKey.load(next(testnet.setup_nodes[0].directory.glob("*.key")))
    failed = await check(deployed(places, {"setup_node": trusted}, audiences))
    shown = capsys.readouterr().out
    assert failed == 0, shown
    assert shown.count("\nok ") > 25, shown


async def test_the_discoverys_cases_hold_on_a_testnet(testnet: Testnet) -> None:
    [service] = [one for one in testnet.state.services if one.name == testnet.discovery.name]
    grpc = service.interfaces["grpc"]
    targets = [GrpcTarget(grpc, PublicKey(await key_of(grpc))), HttpTarget(service.interfaces["http"])]
    for target in targets:
        for case in discovery_runner.CASES:
            if discovery_runner.applies(case, target):
                await discovery_runner.run(case, target)
        await target.close()


async def test_the_grpcurl_lines_of_the_docs_work(testnet: Testnet) -> None:
    [service] = [one for one in testnet.state.services if one.name == testnet.discovery.name]
    lines = re.findall(r"(?m)^grpcurl (-plaintext .*)$", (ROOT / "docs" / "deploy.md").read_text())
    assert len(lines) >= 5
    for line in lines:
        words = re.findall(r"'[^']*'|\S+", line.replace("127.0.0.1:7200", service.interfaces["grpc"]))
        process = await asyncio.create_subprocess_exec(
            GRPCURL,
            *(word.strip("'") for word in words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode == 0, (line, err)
        assert out.strip(), line
