"""Two replicas on one PostgreSQL answer as one; one of them dies; ten start on an old schema."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

import httpx
import pytest
from discovery_process import START_S, DiscoveryProcess
from postgres_server import PostgresServer
from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb
from skywire_common.convert.entries import signed_entry_to
from skywire_common.curve import SecretKey
from skywire_common.entries import SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.http_auth import signed_payload
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.gate import Access
from skywire_transport_discovery.service import ACCESS
from skywire_transport_discovery.store import migrate
from system.discovery.asking import PACKAGE, Asker, is_serving, signed, until
from system.discovery.conftest import Launch

pytestmark = pytest.mark.system
Ask = Callable[..., Asker]


def both(launch: Launch, url: str) -> list[DiscoveryProcess]:
    """Start two replicas at once."""
    replicas = [launch(url, wait=False) for _ in range(2)]
    for replica in replicas:
        replica.wait_ready()
    return replicas


async def test_two_replicas_answer_as_one(pair: tuple[DiscoveryProcess, DiscoveryProcess], ask: Ask) -> None:
    a, b, c = (SecretKey.generate() for _ in range(3))
    here, there = ask(pair[0], a), ask(pair[1], c)
    ab, bc = signed(a, b), signed(b, c)
    [at] = await here.register(ab)
    assert await there.register(bc)
    assert await there.list(b.public) == await here.list(b.public)
    assert (await there.get(ab)).entry.registered == at
    await here.beat()
    assert await here.say(ab, True)
    assert await there.say(bc, True)

    async def way(asker: Asker) -> bool:
        try:
            found = await asker.routes(a.public if asker is there else c.public)
        except Failure as failure:
            assert failure.code == ErrorCode.NO_ROUTE
            return False
        return len(found.routes[0].forward.hops) == 2

    # Each knows what the other wrote as soon as it has read the log.
    await until("a route at both replicas", lambda: way(here))
    await until("a route at both replicas", lambda: way(there))


async def test_100_registrations_at_once_from_both_edges(
    pair: tuple[DiscoveryProcess, DiscoveryProcess], ask: Ask
) -> None:
    a, b = SecretKey.generate(), SecretKey.generate()
    entry = signed(a, b)
    callers = [ask(replica, edge) for replica in pair for edge in (a, b)]
    times = await asyncio.gather(*(callers[number % 4].register(entry) for number in range(100)))
    assert len({tuple(one) for one in times}) == 1
    assert len(await callers[0].list(a.public)) == 1


async def test_of_64_http_requests_with_one_nonce_one_wins(pair: tuple[DiscoveryProcess, DiscoveryProcess]) -> None:
    a, b = SecretKey.generate(), SecretKey.generate()
    body = b"[" + signed(a, b).to_json() + b"]"
    async with httpx.AsyncClient(timeout=20) as client:
        for nonce in range(3):
            headers = {
                "SW-Public": str(a.public),
                "SW-Nonce": str(nonce),
                "SW-Sig": a.sign(signed_payload(body, nonce)).hex(),
            }

            async def post(number: int, headers: dict[str, str] = headers) -> httpx.Response:
                while True:
                    answer = await client.post(
                        f"http://{pair[number % 2].http}/transports/", content=body, headers=headers
                    )
                    # On a machine that does much else: the database is away, try again. Nothing was done.
                    if answer.status_code != 503:
                        return answer

            answers = await asyncio.gather(*(post(number) for number in range(64)))
            codes = sorted(answer.status_code for answer in answers)
            assert codes == [201] + [401] * 63
            refused = {answer.text for answer in answers if answer.status_code == 401}
            assert refused == {'{"error":{"message":"SW-Nonce does not match","code":401}}'}


async def test_64_signed_calls_of_one_key_at_once_all_pass(
    pair: tuple[DiscoveryProcess, DiscoveryProcess], ask: Ask
) -> None:
    a = SecretKey.generate()
    callers = [ask(replica, a) for replica in pair]
    await callers[0].beat()
    leases = await asyncio.gather(*(callers[number % 2].beat() for number in range(64)))
    assert leases == [60] * 64


def _writes(entry: SignedEntry) -> dict[str, object]:
    """Return a call of every method that wants a signature."""
    message, key = signed_entry_to(entry), entry.entry.transport_id.bytes
    statuses = [pb.UpdateStatusesRequest.Status(transport_id=key, is_up=True)]
    own = [pb.ReconcileTransportsRequest.Own(entry=message, is_up=True)]
    return {
        "TransportDiscovery/RegisterTransports": pb.RegisterTransportsRequest(entries=[message]),
        "TransportDiscovery/UpdateStatuses": pb.UpdateStatusesRequest(statuses=statuses),
        "TransportDiscovery/ReconcileTransports": pb.ReconcileTransportsRequest(transports=own),
        "NodeDirectory/RegisterNode": pb.RegisterNodeRequest(epoch=7),
    }


async def test_a_captured_call_is_good_once_at_any_replica(pair: tuple[DiscoveryProcess, DiscoveryProcess]) -> None:
    a = SecretKey.generate()
    writes = _writes(signed(a, SecretKey.generate()))
    assert {f"/{PACKAGE}.{method}" for method in writes} == {
        path for path, access in ACCESS.items() if access is Access.SIGNED
    }
    for method, request in writes.items():
        now, random = time.time(), secrets.token_bytes(16)
        # Same key, time, random bytes and request: the same bytes on the wire.
        same = [
            Asker(replica, a, clock=lambda now=now: now, randomness=lambda _, random=random: random) for replica in pair
        ]
        await same[0].call(method, request)
        for asker in (*same, *same):
            with pytest.raises(Failure) as failure:
                await asker.call(method, request)
            assert failure.value.code == ErrorCode.REPLAYED, method
        for asker in same:
            await asker.close()


async def test_of_64_times_one_call_at_both_replicas_one_is_done(
    pair: tuple[DiscoveryProcess, DiscoveryProcess],
) -> None:
    a, now, random = SecretKey.generate(), time.time(), secrets.token_bytes(16)
    same = [Asker(replica, a, clock=lambda: now, randomness=lambda _: random) for replica in pair]
    done = await asyncio.gather(*(same[n % 2].beat() for n in range(64)), return_exceptions=True)
    assert [one for one in done if not isinstance(one, Failure)] == [60]
    assert {one.code for one in done if isinstance(one, Failure)} == {ErrorCode.REPLAYED}
    for asker in same:
        await asker.close()


async def test_a_call_for_another_service_is_refused(pair: tuple[DiscoveryProcess, DiscoveryProcess]) -> None:
    stranger = Asker(pair[0], SecretKey.generate())
    await stranger.channel.close()
    stranger.channel = RpcChannel(pair[0].grpc, SecretKey.generate().public, stranger.secret)
    with pytest.raises(Failure) as failure:
        await stranger.beat()
    assert failure.value.code == ErrorCode.UNAUTHENTICATED
    await stranger.close()


@pytest.mark.parametrize("minutes", [-10, 10])
async def test_a_clock_that_is_wrong_costs_one_more_try(
    pair: tuple[DiscoveryProcess, DiscoveryProcess], minutes: int
) -> None:
    asker = Asker(pair[0], SecretKey.generate(), clock=lambda: time.time() + 60 * minutes)
    assert await asker.beat() == 60
    assert await asker.beat() == 60
    await asker.close()


async def test_killing_a_replica_under_load_loses_nothing_that_was_acknowledged(
    url: str, launch: Launch, ask: Ask
) -> None:
    me = SecretKey.generate()
    pair = both(launch, url)
    callers = [ask(replica, me) for replica in pair]
    others = [SecretKey.generate() for _ in range(20)]
    acknowledged: set[bytes] = set()
    stop, killed = asyncio.Event(), asyncio.Event()

    async def register(worker: int) -> None:
        other = others[worker]
        number = 0
        while not stop.is_set():
            entry = signed(me, other, f"t{number}")
            number += 1
            try:
                await callers[worker % 2].register(entry)
            except Failure as failure:
                assert failure.code in (ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE)
                if worker % 2 == 0 and killed.is_set():
                    return
            else:
                acknowledged.add(entry.entry.transport_id.bytes)

    workers = [asyncio.create_task(register(worker)) for worker in range(20)]
    try:
        # As long as a machine takes that does much else: it is not what is asked here.
        await until("some were registered", lambda: _count(acknowledged, 100), 60)
        pair[0].kill()
        killed.set()
        before = len(acknowledged)
        await until("the other goes on", lambda: _count(acknowledged, before + 50), 60)
    finally:
        stop.set()
        await asyncio.gather(*workers)
    assert acknowledged <= set(await callers[1].list(me.public))


async def _count(found: set[bytes], least: int) -> bool:
    return len(found) >= least


async def test_a_watcher_sees_what_another_replica_writes_and_resumes_at_it(
    pair: tuple[DiscoveryProcess, DiscoveryProcess], ask: Ask
) -> None:
    a, b = SecretKey.generate(), SecretKey.generate()
    writer, watcher = ask(pair[0], a), ask(pair[1])
    entries = [signed(a, b, f"t{number}") for number in range(6)]
    await writer.register(entries[0])
    events = watcher.watch()
    mine = {entry.entry.transport_id.bytes for entry in entries}
    seen: dict[bytes, bool] = {}
    reached = 0

    async def read(stream: object, wanted: int) -> None:
        nonlocal reached
        async for event in stream:  # type: ignore[attr-defined]
            assert event.revision >= reached
            reached = event.revision
            assert event.WhichOneof("event") != "resync", event.resync.reason
            for transport in event.snapshot.transports or [event.change.transport]:
                if transport.entry.entry.transport_id in mine:
                    seen[transport.entry.entry.transport_id] = transport.is_up
            if sum(seen.values()) >= wanted:
                return

    reading = asyncio.create_task(read(events, 2))
    for entry in entries[1:3]:
        await writer.register(entry)
        await writer.say(entry, True)
    await asyncio.wait_for(reading, 20)
    await events.aclose()
    # Written while nobody watches; resumed at the other replica, from the revision reached.
    for entry in entries[3:]:
        await writer.register(entry)
        await writer.say(entry, True)
    resumed = ask(pair[0]).watch(reached)
    await asyncio.wait_for(read(resumed, 5), 20)
    await resumed.aclose()
    assert {key for key, up in seen.items() if up} == {entry.entry.transport_id.bytes for entry in entries[1:]}


async def test_a_watcher_from_before_the_replica_started_is_caught_up(url: str, launch: Launch, ask: Ask) -> None:
    a, b = SecretKey.generate(), SecretKey.generate()
    first = launch(url)
    writer = ask(first, a)
    await writer.register(signed(a, b))
    await until("read", lambda: _revision(writer, 1))
    await writer.register(signed(a, b, "t1"))
    assert first.stop() == 0
    second = launch(url)
    stream = ask(second).watch(1)
    event = await asyncio.wait_for(anext(stream), 10)
    assert event.change.transport.entry.entry.type == "t1"
    assert event.revision == 2
    await stream.aclose()


async def _revision(asker: Asker, least: int) -> bool:
    return (await asker.status()).revision >= least


async def test_streams_end_politely_when_a_replica_stops(url: str, launch: Launch, ask: Ask) -> None:
    replica = launch(url)
    stream = ask(replica).watch()
    assert (await asyncio.wait_for(anext(stream), 10)).snapshot.complete
    stopping = asyncio.create_task(asyncio.to_thread(replica.stop))
    with pytest.raises(Failure) as failure:
        await asyncio.wait_for(anext(stream), 10)
    assert failure.value.code == ErrorCode.STOPPING
    assert await stopping == 0


async def test_whoever_knows_both_notices_little_when_one_is_killed(url: str, launch: Launch) -> None:
    pair = both(launch, url)
    a, b = SecretKey.generate(), SecretKey.generate()
    asker = Asker(pair[0], a)
    await asker.channel.close()
    asker.channel = RpcChannel(",".join(replica.grpc for replica in pair), pair[0].public, a)
    entry = signed(a, b)
    await asker.register(entry)
    await asker.say(entry, True)
    pair[0].kill()

    async def goes_on() -> bool:
        try:
            return await asker.beat() == 60 and (await asker.get(entry)).is_up
        except Failure as failure:
            assert failure.code == ErrorCode.UNAVAILABLE
            return False

    await until("the other answers", goes_on, 10)
    for _ in range(20):
        await asker.beat()
    await asker.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [1, pytest.param(10, marks=pytest.mark.slow)])
async def test_replicas_on_an_old_schema_wait_for_the_one_migrator_that_works(
    postgres: PostgresServer, launch: Launch, number: int
) -> None:
    with postgres.database() as name:
        replicas = [launch(postgres.url(name), wait=False) for _ in range(number)]
        for replica in replicas:
            await asyncio.to_thread(replica.wait_ready, START_S * number)
            assert not await is_serving(replica)
            assert "run skywire-discovery migrate" in replica.log.read_text()
        migrations = [replica.migrate() for replica in replicas]
        for migration in migrations:
            out, err = await asyncio.to_thread(migration.communicate)
            assert (migration.returncode, err) == (0, b""), err
            assert out == f"the schema is at {migrate.newest()}\n".encode()
        for replica in replicas:
            await until("serving", lambda replica=replica: is_serving(replica), 10)  # type: ignore[misc]
