"""The lines of docs/deploy.md for backups, keys and certificates, typed as they stand at services that run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psycopg
import pytest
from authority import Authority
from discovery_process import DiscoveryProcess
from postgres_server import PostgresServer
from skywire_cli.testnet.network import Testnet
from skywire_cli.testnet.plan import AppPlan, Link, Plan
from skywire_common.errors import Failure
from skywire_common.rpc.client import RpcChannel
from skywire_node.control.discovery import Discovery
from system.bed import dialled, until

# Networks whose discovery stops, is restored, and hears of everything anew: each takes half a minute.
pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]
DOCS = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
WITHIN = 90
PORT = 14
APP = (sys.executable, "-m", "skywire_apps.helloworld")
COUNT = "SELECT count(*) FROM transports"


def line(word: str) -> str:
    """Return the one line of the page's shell that begins with a word."""
    blocks = re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    (found,) = [one for block in blocks for one in block.splitlines() if one.startswith(word)]
    return re.sub(r"  +#.*", "", found)


async def typed(command: str, folder: Path, **environment: str) -> str:
    """Type a line in a folder; return what it says."""
    scripts = Path(sys.executable).parent
    path = os.pathsep.join((str(scripts), environment.pop("PATH", ""), os.environ["PATH"]))
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-euc", command],
        cwd=folder,
        env={**os.environ, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def place() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="sw"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@asynccontextmanager
async def line_of_three(place: Path, **environment: str) -> AsyncIterator[Testnet]:
    apps = {index: (AppPlan("helloworld", "1.0", PORT, APP, auto_start=True),) for index in (0, 1)}
    net = Testnet(Plan(3, (Link(0, 1), Link(1, 2)), apps=apps), place / "net")
    net.discovery.environment = environment
    async with net:
        yield net


async def listed(net: Testnet) -> set[tuple[frozenset[str], bool]]:
    """Return what the discovery lists: whom each transport joins, and whether it is up."""
    channel = RpcChannel(net.discovery.interfaces["grpc"], None, None)
    discovery = Discovery(channel)
    try:
        of_all = [await discovery.list_transports(node.key) for node in net.nodes]
    except Failure:
        return set()  # it has just begun
    finally:
        await channel.close()
    return {(frozenset(map(str, one.entry.entry.edges)), one.is_up) for each in of_all for one in each}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_an_older_backup_is_put_back_and_the_nodes_register_what_it_does_not_know(
    database: str, place: Path
) -> None:
    environment: dict[str, str] = {}
    if database == "postgresql":
        server = PostgresServer.shared()
        template = server.discovery_template()
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE skywire TEMPLATE {template}")
        environment = {"SKYWIRE_DATABASE_URL": server.url("skywire")}
    try:
        async with line_of_three(place, **environment) as net:
            if database == "sqlite":
                folder, names = net.discovery.directory, {}
                save, back = line("python3 -c 'import sqlite3"), line("rm -f discovery.db-wal")
            else:
                folder = place
                names = {"PGHOST": str(server.root), "PGUSER": "postgres", "PATH": str(server.binaries)}
                save, back = line("pg_dump"), line("pg_restore")

            def count() -> int:
                if database == "sqlite":
                    with closing(sqlite3.connect(folder / "discovery.db")) as open_file:
                        return int(open_file.execute(COUNT).fetchone()[0])
                with psycopg.connect(server.dsn("skywire")) as connection:
                    return int((connection.execute(COUNT).fetchone() or (0,))[0])

            first, _, last = net.nodes
            await typed(save, folder, **names)
            await first.admin.add_transport(last.key, "tcp", public=True)
            pairs = {frozenset((one.public_key, other.public_key)) for one in net.nodes for other in net.nodes}
            every = {(pair, True) for pair in pairs if len(pair) == 2}

            async def all_there() -> bool:
                return await listed(net) == every

            await until(all_there, WITHIN, "three transports are listed and up")
            await net.discovery.stop()
            assert await asyncio.to_thread(count) == 3
            await typed(back, folder, **names)
            assert await asyncio.to_thread(count) == 2, "the backup is older"
            await net.restart(net.discovery)
            await until(all_there, WITHIN, "the nodes have told the discovery what its backup does not know")
    finally:
        if database == "postgresql":
            with psycopg.connect(server.dsn("postgres"), autocommit=True) as admin:
                admin.execute("DROP DATABASE IF EXISTS skywire WITH (FORCE)")


async def test_a_setup_node_gets_another_key(place: Path) -> None:
    async with line_of_three(place) as net:
        service, near, far = net.setup_nodes[0], net.nodes[0], net.nodes[1]
        (net.directory / "setup-node").symlink_to(service.directory)
        old = service.public_key
        await typed(line("mv setup-node/secret.key"), net.directory)
        new = (await typed(line("skywire keygen setup-node/secret.key"), net.directory)).strip()
        assert new != old and new == (service.directory / "secret.key.pub").read_text().strip()
        await service.stop()
        await net.restart(service)
        for node in net.nodes:
            file = node.directory / "config.json"
            file.write_text(file.read_text().replace(old, new))
            await node.stop()
            await node.start()
        await net.connected(WITHIN)
        await dialled(near, far, "helloworld", PORT, WITHIN)
        assert (await near.admin.loops())[0].state == "OPEN"
        (net.directory / "setup-node").unlink()


async def test_a_certificate_is_replaced_while_the_discovery_runs(place: Path) -> None:
    authority = Authority(place)
    files = {"certificate": str(place / "discovery" / "tls.crt"), "key": str(place / "discovery" / "tls.key")}
    discovery = DiscoveryProcess(place, f"sqlite+aiosqlite:///{place / 'discovery.db'}", grpc_tls=files)
    (place / "new").mkdir()
    for folder in ("discovery", "new"):
        certificate, key = authority.issue(folder)
        certificate.rename(place / folder / "tls.crt")
        key.rename(place / folder / "tls.key")
    try:
        await asyncio.to_thread(discovery.start)
        shown = line("openssl s_client").replace("127.0.0.1:7200", discovery.grpc)
        before = await typed(shown, place)
        assert before.startswith("serial=")
        await typed(line("cp new/tls.crt"), place)

        async def another() -> bool:
            return await typed(shown, place) != before

        await until(another, WITHIN, "the new certificate is shown")
    finally:
        await asyncio.to_thread(discovery.stop)
