"""One discovery per database for all cases, each a process of its own."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from contract.discovery.targets import GrpcTarget, HttpTarget
from discovery_process import DiscoveryProcess
from postgres_server import PostgresServer


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def discovery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiscoveryProcess]:
    directory: Path = tmp_path_factory.mktemp("contract")
    if request.param == "sqlite":
        process = DiscoveryProcess(directory, f"sqlite+aiosqlite:///{directory / 'discovery.db'}")
        yield process.start()
        assert process.stop() == 0
        return
    server = PostgresServer.shared()
    with server.database() as name:
        process = DiscoveryProcess(directory, server.url(name))
        process.migrated()
        yield process.start()
        assert process.stop() == 0


@pytest.fixture(params=["grpc", "http"])
async def target(request: pytest.FixtureRequest, discovery: DiscoveryProcess) -> AsyncIterator[GrpcTarget | HttpTarget]:
    found = GrpcTarget(discovery.grpc, discovery.public) if request.param == "grpc" else HttpTarget(discovery.http)
    yield found
    await found.close()


@pytest.fixture
def grpcurl(discovery: DiscoveryProcess) -> object:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = Path(discovery.executable()).parent / "grpcurl"
        return subprocess.run(
            [str(program), "-plaintext", *arguments], capture_output=True, text=True, timeout=30, check=False
        )

    return run
