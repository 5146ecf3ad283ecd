"""The contract cases against a whole testnet, by the runner for any address; and the grpcurl lines of the docs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from authority import Authority
from contract.discovery import runner as discovery_runner
from contract.discovery.targets import GrpcTarget, HttpTarget
from contract.everything.__main__ import check, key_of
from contract.everything.targets import deployed
from skywire_cli.keygen import write_key_file
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import Topology, plan
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey
from skywire_common.runtime.config import TlsFiles
from skywire_common.runtime.scope import Scope
from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.service import start as start_discovery

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


def cookbook() -> tuple[str, list[str]]:
    """Return the function that the cookbook's lines use, and its lines."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    block = page.partition("## Asking by hand")[2].partition("```sh\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if line]
    assert lines[0].startswith("DISCOVERY=") and lines[1].startswith("b64() {")
    return lines[1], lines[2:]


async def test_every_line_of_the_cookbook_works(testnet: Testnet, tmp_path: Path) -> None:
    function, lines = cookbook()
    assert len(lines) >= 20
    authority = Authority(tmp_path)
    certificate, key = authority.issue("service")
    write_key_file(tmp_path / "secret.key")
    files = TlsFiles(certificate=certificate, key=key, ca=authority.ca)
    settings = Settings(
        secret_key_file=tmp_path / "secret.key",
        database_url=f"sqlite+aiosqlite:///{tmp_path / 'discovery.db'}",
        grpc_tls=files,
    )
    scope = Scope(structlog.get_logger("test"), 2.0)
    sealed = (await start_discovery(settings, scope)).interfaces["grpc"]
    for name, path in (("ca.crt", authority.ca), ("tls.crt", certificate), ("tls.key", key)):
        (tmp_path / name).symlink_to(path)
    first, second = testnet.nodes
    known = {
        "DISCOVERY": testnet.discovery.interfaces["grpc"],
        "SETUP_NODE": testnet.setup_nodes[0].interfaces["grpc"],
        "NODE": first.interfaces["control"],
        "ADMIN": str(first.socket),
        "KEY": first.public_key,
        "OTHER_KEY": second.public_key,
    }
    environment = os.environ | known | {"PATH": f"{GRPCURL.parent}:{os.environ['PATH']}"}

    async def run(line: str) -> None:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"set -o pipefail\n{function}\n{line}",
            cwd=tmp_path,
            env=environment | ({"DISCOVERY": sealed} if "-cacert" in line else {}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        # A stream that `head` has seen enough of ends by its pipe.
        assert process.returncode == 0 or "head" in line, (line, err)
        assert out.strip(), (line, err)

    await asyncio.gather(*map(run, lines))
    await scope.close()
