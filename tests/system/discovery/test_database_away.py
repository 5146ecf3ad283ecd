"""PostgreSQL stopped, restarted, frozen, its connections cut, all under load; SQLite's disk full.

What must hold: calls fail fast with UNAVAILABLE, health says NOT_SERVING, routes are still found from memory, and
once the database is back so is the discovery, within 10 s, with everything that was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from discovery_process import START_S, DiscoveryProcess
from postgres_server import PostgresServer
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from system.discovery.asking import TIMEOUT_S, Asker, is_serving, signed, until
from system.discovery.conftest import Launch, launching

pytestmark = pytest.mark.system
BACK_S = 10.0
UNLIMITED = {"transports_per_node": 1_000_000, "registrations_per_minute": 1_000_000}
# DEADLINE would mean that the discovery hung.
FAST = {ErrorCode.UNAVAILABLE}
Ask = Callable[..., Asker]
# Of each of eight workers: enough calls to meet whatever happens, and time for it to happen.
PAUSE_S = 0.1


class Load:
    """Registrations, statuses and heartbeats, some always on their way; remembers what was acknowledged and how calls
    failed."""

    def __init__(self, replica: DiscoveryProcess) -> None:
        self.me = SecretKey.generate()
        self.others = [SecretKey.generate() for _ in range(8)]
        self.asker = Asker(replica, self.me)
        self.acknowledged: set[bytes] = set()
        self.failures: set[ErrorCode] = set()
        self.failed = 0
        self.slowest_s = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        workers = [asyncio.create_task(self._work(number)) for number in range(len(self.others))]
        try:
            await until("work done", self._done, 20)
            yield
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self.asker.close()

    async def _done(self) -> bool:
        return len(self.acknowledged) >= 40

    async def _work(self, worker: int) -> None:
        number = 0
        while True:
            number += 1
            entry = signed(self.me, self.others[worker], f"t{number}")
            began = time.monotonic()
            try:
                await self.asker.register(entry)
                self.acknowledged.add(entry.entry.transport_id.bytes)
                await self.asker.say(entry, True)
                await self.asker.beat(epoch=9)
                await asyncio.sleep(PAUSE_S)
            except Failure as failure:
                self.failures.add(failure.code)
                self.failed += 1
                await asyncio.sleep(PAUSE_S)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    async def fails(self) -> None:
        """Wait until calls fail."""
        before = self.failed

        async def failing() -> bool:
            return self.failed > before

        await until("calls fail", failing, 10)

    async def works(self) -> None:
        """Wait until calls succeed."""
        before = len(self.acknowledged)

        async def working() -> bool:
            return len(self.acknowledged) > before

        await until("calls succeed", working, BACK_S)


@pytest.fixture(scope="module")
def _survivor(_harmed: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiscoveryProcess]:
    with launching(tmp_path_factory.mktemp("survivor")) as start:
        yield start(_harmed.url(_harmed.discovery_template()), limits=UNLIMITED)


@pytest.fixture
async def replica(_survivor: DiscoveryProcess, own_postgres: PostgresServer) -> DiscoveryProcess:
    """A replica on `own_postgres`: one process for all tests, since it has to survive each of them."""
    await until("SERVING", lambda: is_serving(_survivor), BACK_S)
    return _survivor


async def not_serving(replica: DiscoveryProcess) -> bool:
    return not await is_serving(replica)


async def check_away(replica: DiscoveryProcess, load: Load) -> None:
    """Check what must hold while the database is away."""
    await load.fails()
    await until("NOT_SERVING", lambda: not_serving(replica), 10)
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
        answer = await client.get(f"http://{replica.http}/security/nonces/{load.me.public}")
        assert answer.status_code == 503
        assert (await client.get(f"http://{replica.http}/health")).status_code == 503
    asker = Asker(replica, load.me)
    status = await asker.status()
    assert not status.database_ok
    assert status.problem
    assert await is_serving(replica, "RouteFinder")
    found = await asker.routes(load.others[0].public)
    assert len(found.routes[0].forward.hops) == 1
    later = await asker.routes(load.others[0].public)
    assert later.revision == found.revision > 0
    assert later.age_ms > found.age_ms > 0, "the longer it is away, the older is what it knows"
    await asker.close()


async def check_back(replica: DiscoveryProcess, load: Load) -> None:
    """Check that it recovers by itself, and that nothing acknowledged is lost."""
    await until("SERVING", lambda: is_serving(replica), BACK_S)
    await load.works()
    acknowledged = set(load.acknowledged)
    assert acknowledged <= set(await load.asker.list(load.me.public))
    assert load.failures <= FAST
    assert load.slowest_s < TIMEOUT_S * 2


async def test_postgresql_restarts(replica: DiscoveryProcess, own_postgres: PostgresServer) -> None:
    load = Load(replica)
    async with load.running():
        await asyncio.to_thread(own_postgres.stop)
        await check_away(replica, load)
        await asyncio.to_thread(own_postgres.start)
        await check_back(replica, load)


async def test_postgresql_crashes(replica: DiscoveryProcess, own_postgres: PostgresServer) -> None:
    load = Load(replica)
    async with load.running():
        await asyncio.to_thread(own_postgres.stop, at_once=True)
        await check_away(replica, load)
        await asyncio.to_thread(own_postgres.start)
        await check_back(replica, load)


async def test_postgresql_freezes(replica: DiscoveryProcess, own_postgres: PostgresServer) -> None:
    load = Load(replica)
    async with load.running():
        own_postgres.freeze()
        try:
            await check_away(replica, load)
        finally:
            own_postgres.thaw()
        await check_back(replica, load)


async def test_connections_are_cut(replica: DiscoveryProcess, own_postgres: PostgresServer) -> None:
    load, template = Load(replica), own_postgres.discovery_template()
    async with load.running():
        for _ in range(5):
            # What was acknowledged may have been on its way when its session was cut, and no other be open yet.
            await until("sessions to cut", lambda: asyncio.to_thread(own_postgres.cut, template))
            await load.works()
        await check_back(replica, load)


async def test_it_starts_before_its_database(own_postgres: PostgresServer, launch: Launch) -> None:
    url = own_postgres.url(own_postgres.discovery_template())
    await asyncio.to_thread(own_postgres.stop)
    replica = launch(url, wait=False)
    await asyncio.to_thread(replica.wait_ready)
    assert not await is_serving(replica)
    asked = [Path(replica.executable()).parent / "skywire", "discovery", "status", "--discovery", replica.grpc]
    shown = await asyncio.to_thread(subprocess.run, asked, capture_output=True, text=True, check=False)
    assert shown.returncode == 4
    assert "NOT SERVING" in shown.stdout
    await asyncio.to_thread(own_postgres.start)
    await until("SERVING", lambda: is_serving(replica), BACK_S)


async def test_cancelled_requests_leak_no_connection(replica: DiscoveryProcess, own_postgres: PostgresServer) -> None:
    asker = Asker(replica, SecretKey.generate())
    for _ in range(10):
        calls = [asyncio.create_task(asker.beat(epoch=number)) for number in range(30)]
        await asyncio.sleep(0.002)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    def idle() -> int:
        with psycopg.connect(own_postgres.dsn(own_postgres.discovery_template())) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'skywire-discovery' AND state <> 'idle'"
            ).fetchone()
        return int(found[0]) if found else 0

    idle_at: set[str] = set()

    async def both_were_idle() -> bool:
        """One that leaked never is; the replica's own reading of the log may be under way at one look or the other."""
        async with httpx.AsyncClient(timeout=30) as client:
            shown = (await client.get(f"http://{replica.http}/metrics")).text
        in_use = next(line for line in shown.splitlines() if line.startswith("skywire_discovery_database_connections "))
        if float(in_use.split()[-1]) == 0:
            idle_at.add("the replica")
        if await asyncio.to_thread(idle) == 0:
            idle_at.add("the server")
        return len(idle_at) == 2

    await until("no connection in use", both_were_idle, 60)
    await asker.close()


@pytest.fixture
def on_sqlite(tmp_path: Path, launch: Launch) -> tuple[DiscoveryProcess, Path]:
    path = tmp_path / "discovery.db"
    return launch(f"sqlite+aiosqlite:///{path}", limits=UNLIMITED), path


async def test_sqlite_disk_full(on_sqlite: tuple[DiscoveryProcess, Path]) -> None:
    replica, _ = on_sqlite
    load = Load(replica)
    async with load.running():
        unlimited = resource.prlimit(replica.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
        await load.fails()
        await until("NOT_SERVING", lambda: not_serving(replica), 10)
        resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, unlimited)
        await check_back(replica, load)


@pytest.mark.parametrize("what", ["folder", "file"])
async def test_sqlite_read_only(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = folder / "discovery.db"
    replica = DiscoveryProcess(tmp_path, f"sqlite+aiosqlite:///{path}")
    if os.getuid() == 0:  # who may write everywhere, unless that right is taken
        replica.through = [shutil.which("setpriv") or "setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    denied, mode = folder, 0o755
    if what == "file":
        replica.start()
        assert replica.stop() == 0
        denied, mode = path, 0o644
    denied.chmod(0o555)
    try:
        replica.launch()
        await asyncio.to_thread(replica.wait_ready)
        asker = Asker(replica, SecretKey.generate())
        assert not await is_serving(replica)
        status = await asker.status()
        assert "Permission denied" in status.problem or "readonly" in status.problem
        with pytest.raises(Failure) as failure:
            await asker.beat()
        assert failure.value.code == ErrorCode.UNAVAILABLE
        denied.chmod(mode)
        await until("SERVING", lambda: is_serving(replica), BACK_S)
        assert await asker.beat() == 60
        await asker.close()
    finally:
        denied.chmod(mode)
        replica.kill()


async def test_sqlite_is_not_shared(on_sqlite: tuple[DiscoveryProcess, Path], tmp_path: Path) -> None:
    _, path = on_sqlite
    second = DiscoveryProcess(tmp_path, f"sqlite+aiosqlite:///{path}", "second")
    second.launch()
    assert second.process is not None
    assert await asyncio.to_thread(second.process.wait, START_S) == 2
    assert "replicas need PostgreSQL" in second.log.read_text()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_node_that_dies_without_a_word_is_in_no_route_after_its_lease(
    backend: str, request: pytest.FixtureRequest, tmp_path: Path, launch: Launch, ask: Ask
) -> None:
    """The minute is let pass in the table: what counts is the database's clock."""
    path = tmp_path / "discovery.db"
    url = f"sqlite+aiosqlite:///{path}" if backend == "sqlite" else request.getfixturevalue("url")
    replica = launch(url)
    a, b = SecretKey.generate(), SecretKey.generate()
    asker, entry = ask(replica, a), signed(a, b)
    await asker.register(entry)
    await asker.beat()
    await asker.say(entry, True)
    await asker.routes(b.public)
    older = "UPDATE nodes SET lease_until_ms = lease_until_ms - 58000, last_seen_ms = last_seen_ms - 58000"
    if backend == "sqlite":
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(older)
    else:
        with psycopg.connect(url.replace("+psycopg", "")) as connection_:
            connection_.execute(older)

    async def gone() -> bool:
        return not (await asker.get(entry)).is_up

    await until("down", gone, 2)

    async def no_route() -> bool:
        try:
            await asker.routes(b.public)
        except Failure as failure:
            assert failure.code == ErrorCode.NO_ROUTE
            return True
        return False

    await until("in no route", no_route, 2)
    assert await asker.beat() == 60
    assert (await asker.get(entry)).is_up
    await asker.routes(b.public)


async def test_a_registry_restored_from_a_backup_is_taken_up(tmp_path: Path, launch: Launch) -> None:
    """F11: the log goes on elsewhere; the replica loads anew, and nodes repair the rest by reconciling."""
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
    from skywire_common.convert.entries import signed_entry_to

    path = tmp_path / "discovery.db"
    replica = launch(f"sqlite+aiosqlite:///{path}")
    a, b = SecretKey.generate(), SecretKey.generate()
    asker, old, new = Asker(replica, a), signed(a, b), signed(a, b, "t1")
    await asker.register(old)
    await asker.say(old, True)
    backup = tmp_path / "backup.db"
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    await asker.register(new)
    await asker.say(new, True)
    await asker.say(old, False)
    assert (await asker.routes(b.public)).routes[0].forward.hops[0].transport_id == new.entry.transport_id.bytes
    with contextlib.closing(sqlite3.connect(backup)) as source, contextlib.closing(sqlite3.connect(path)) as target:
        source.backup(target)

    async def restored() -> bool:
        found = await asker.routes(b.public)
        return found.routes[0].forward.hops[0].transport_id == old.entry.transport_id.bytes

    await until("the backup's graph", restored)
    for registered, corrected in ((1, 2), (0, 0)):
        own = [
            pb.ReconcileTransportsRequest.Own(entry=signed_entry_to(entry), is_up=up)
            for entry, up in ((old, False), (new, True))
        ]
        answer = await asker.call(
            "TransportDiscovery/ReconcileTransports", pb.ReconcileTransportsRequest(transports=own)
        )
        assert (answer.registered, answer.corrected) == (registered, corrected)
    assert (await asker.routes(b.public)).routes[0].forward.hops[0].transport_id == new.entry.transport_id.bytes
    await asker.close()
