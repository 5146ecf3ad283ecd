"""Replicas of a discovery as processes on one PostgreSQL, and what asks them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from discovery_process import DiscoveryProcess
from postgres_server import PostgresServer
from skywire_common.curve import SecretKey
from system.discovery.asking import Asker


@pytest.fixture(scope="session")
def postgres() -> PostgresServer:
    """The server that all share: nobody stops it."""
    return PostgresServer.shared()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server to do harm to."""
    server = PostgresServer()
    server.start()
    yield server
    server.close()


Launch = Callable[..., DiscoveryProcess]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start replicas: `launch(url, migrate=True, wait=True)`; all have one key, and all end with the test."""
    secret = SecretKey.generate()
    started: list[DiscoveryProcess] = []

    def start(url: str, migrate: bool = True, wait: bool = True) -> DiscoveryProcess:
        process = DiscoveryProcess(tmp_path, url, f"replica{len(started)}", secret)
        started.append(process)
        if migrate:
            process.migrated()
        process.launch()
        if wait:
            process.wait_ready()
        return process

    yield start
    for process in started:
        process.kill()


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
