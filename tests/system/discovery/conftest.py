"""Replicas of a discovery as processes on one PostgreSQL, and what asks them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from discovery_process import DiscoveryProcess
from postgres_server import PostgresServer
from skywire_common.curve import SecretKey
from system.discovery.asking import Asker


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """The server that all share: nobody stops it."""
    return PostgresServer.shared()


@pytest.fixture(scope="module")
def _harmed() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def own_postgres(_harmed: PostgresServer) -> Iterator[PostgresServer]:
    """A server to do harm to; whatever a test leaves of it, the next one finds it running."""
    yield _harmed
    _harmed.revive()


Launch = Callable[..., DiscoveryProcess]


@contextlib.contextmanager
def launching(directory: Path) -> Iterator[Launch]:
    """Start replicas: `launch(url, wait=True)`; all have one key, and all end with the block."""
    secret = SecretKey.generate()
    started: list[DiscoveryProcess] = []

    def start(url: str, wait: bool = True, **config: Any) -> DiscoveryProcess:
        process = DiscoveryProcess(directory, url, f"replica{len(started)}", secret, **config)
        started.append(process)
        process.launch()
        if wait:
            process.wait_ready()
        return process

    try:
        yield start
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """See `launching`: the replicas end with the test."""
    with launching(tmp_path) as start:
        yield start


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A database with the newest schema."""
    with postgres.database(postgres.discovery_template()) as name:
        yield postgres.url(name)


@pytest.fixture(scope="module")
def pair(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DiscoveryProcess, DiscoveryProcess]]:
    """Two replicas on one database for a whole module: nobody harms them."""
    with (
        postgres.database(postgres.discovery_template()) as name,
        launching(tmp_path_factory.mktemp("pair")) as start,
    ):
        replicas = [start(postgres.url(name), wait=False) for _ in range(2)]
        for replica in replicas:
            replica.wait_ready()
        yield replicas[0], replicas[1]


@pytest.fixture
async def ask() -> AsyncIterator[Callable[..., Asker]]:
    """Make callers: `ask(replica)` or `ask(replica, secret)`."""
    made: list[Asker] = []

    def make(replica: DiscoveryProcess, secret: SecretKey | None = None) -> Asker:
        made.append(Asker(replica, secret or SecretKey.generate()))
        return made[-1]

    yield make
    for asker in made:
        await asker.close()
