"""health, identities and log-level: what containers and their owners run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from skywire_cli.failures import Exit
from skywire_cli.main import run
from skywire_common.curve import SecretKey
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.runtime import logging


class Served:
    def __init__(self, server: RpcServer, address: str, socket: Path) -> None:
        self.server, self.address, self.socket = server, address, socket


@pytest.fixture
async def served(short_path: Path) -> AsyncIterator[Served]:
    from skywire.setup_node.v1 import setup_node_pb2_grpc
    from skywire_setup_node.service import ACCESS, SERVICE

    server = RpcServer(SecretKey.generate(), ACCESS, replays=MemoryReplays())
    server.add(setup_node_pb2_grpc.add_SetupNodeServicer_to_server, setup_node_pb2_grpc.SetupNodeServicer(), SERVICE)
    server.add_process("skywire-tiny", "skywire-common")
    address = await server.listen("127.0.0.1:0")
    socket = short_path / "admin.sock"
    await server.listen(f"unix:{socket}")
    await server.start()
    yield Served(server, address, socket)
    await server.stop(0)


async def test_health_says_by_its_exit_code_what_is(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    from skywire_setup_node.service import SERVICE

    async def health(*words: str) -> int:
        return await asyncio.to_thread(run, ["health", *words])

    assert await health(served.address) == Exit.NOT_READY
    assert await health(served.address, "--service", "alive") == Exit.OK
    served.server.serving(SERVICE, yes=True)
    assert await health(served.address, "--service", SERVICE) == Exit.OK
    assert await health(served.address, "--json") == Exit.OK
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert shown == {"address": served.address, "service": "", "status": "SERVING"}
    assert await health("127.0.0.1:1") == Exit.NOT_RUNNING


async def test_health_finds_the_address_where_the_service_does(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYWIRE_INTERFACES__HEALTH", f"0.0.0.0:{served.address.rpartition(':')[2]}")
    assert await asyncio.to_thread(run, ["health", "--service", "alive"]) == Exit.OK


async def test_health_waits_for_a_service_that_comes(served: Served) -> None:
    from skywire_setup_node.service import SERVICE

    waiting = asyncio.create_task(asyncio.to_thread(run, ["health", served.address, "--wait", "30"]))
    await asyncio.sleep(0)
    served.server.serving(SERVICE, yes=True)
    assert await waiting == Exit.OK


async def test_the_log_level_is_said_and_changed(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.current_level()
    socket = ["--socket", str(served.socket)]
    try:
        assert await asyncio.to_thread(run, ["log-level", "error", *socket]) == Exit.OK
        assert logging.current_level() == "error"
        assert await asyncio.to_thread(run, ["log-level", *socket, "--json"]) == Exit.OK
        assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"level": "error"}
    finally:
        logging.set_level(before)
    assert await asyncio.to_thread(run, ["log-level", "loud", *socket]) == Exit.USAGE


def test_identities_are_made_once(tmp_path: Path) -> None:
    from skywire_cli.identities import identities

    def make(*names: str) -> dict[str, str]:
        done = CliRunner().invoke(identities, ["make", str(tmp_path), *names, "--json"])
        assert done.exit_code == 0, done.output
        return dict(json.loads(done.output))

    first = make("discovery", "node-0")
    again = make("discovery", "node-0", "node-1")
    assert first.items() <= again.items()
    for name, key in again.items():
        secret = tmp_path / name / "secret.key"
        assert secret.stat().st_mode & 0o777 == 0o600
        assert str(SecretKey.load(secret).public) == key == (tmp_path / "public" / name).read_text().strip()


@pytest.mark.parametrize("name", ["public", "Node", "../up", "", "a" * 64, "-a"])
def test_names_that_are_no_names_of_services_are_refused(tmp_path: Path, name: str) -> None:
    assert run(["identities", "make", str(tmp_path / "keys"), "--", name]) == Exit.USAGE


def test_kubernetes_gets_every_key_and_no_secret_twice(tmp_path: Path) -> None:
    from skywire_cli.identities import identities

    names = ["discovery", "setup-node-a", "node-0", "node-1"]
    assert CliRunner().invoke(identities, ["make", str(tmp_path), *names]).exit_code == 0
    shown = CliRunner().invoke(identities, ["kubernetes", str(tmp_path)])
    listed = json.loads(shown.output)
    found = {(one["kind"], one["metadata"]["name"]): one for one in listed["items"]}
    assert set(found) == {
        ("Secret", "discovery-identity"),
        ("Secret", "setup-node-a-identity"),
        ("Secret", "node-identity"),
        ("ConfigMap", "public-keys"),
    }
    assert set(found["Secret", "node-identity"]["stringData"]) == {"node-0", "node-1"}
    secrets = [value for one in listed["items"] for value in one.get("stringData", {}).values()]
    assert len(set(secrets)) == 4
    assert not set(secrets) & set(found["ConfigMap", "public-keys"]["data"].values())
