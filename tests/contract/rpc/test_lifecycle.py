"""Health, streams, listeners, limits, and the end of a server."""

from __future__ import annotations

import asyncio
import importlib.metadata
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from skywire.common.v1 import process_pb2 as pb
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.rpc import gate
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.health import ALIVE
from skywire_common.rpc.process import SERVICE as PROCESS
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import Access, RpcServer
from skywire_common.runtime import logging

from .conftest import ACCESS, LOCAL, OPEN, SERVICE, SIGNED, WATCH, Tiny, World, add_tiny_to_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WAIT_S = 20


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def server(access: dict[str, Access] | None = None) -> RpcServer:
    return RpcServer(SecretKey.generate(), ACCESS if access is None else access, replays=MemoryReplays())


@pytest.fixture
async def health(world: World) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(world.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


async def status(health: Any, service: str) -> int:
    return int((await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=WAIT_S)).status)


async def test_a_method_without_access_is_refused_at_construction() -> None:
    made = server({path: access for path, access in ACCESS.items() if path != SIGNED})
    with pytest.raises(LocalError, match="Signed"):
        made.add(add_tiny_to_server, Tiny(), SERVICE)
    await made.stop(0)


async def test_an_access_without_method_is_refused_at_start() -> None:
    made = server(ACCESS | {f"/{SERVICE}/Sigend": Access.ANYONE})
    made.add(add_tiny_to_server, Tiny(), SERVICE)
    with pytest.raises(LocalError, match="Sigend"):
        await made.start()
    await made.stop(0)


async def test_an_unknown_service_is_refused() -> None:
    made = server({})
    with pytest.raises(LocalError, match=r"skywire\.tests\.v1\.Other"):
        made.add(add_tiny_to_server, Tiny(), "skywire.tests.v1.Other")
    await made.stop(0)


async def test_not_serving_until_said_so() -> None:
    made = server()
    made.add(add_tiny_to_server, Tiny(), SERVICE)
    address = await made.listen("127.0.0.1:0")
    await made.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert await status(stub, SERVICE) == NOT_SERVING
        assert await status(stub, "") == NOT_SERVING
        made.serving(SERVICE, yes=True)
        assert await status(stub, SERVICE) == SERVING
        assert await status(stub, "") == SERVING
        made.serving(SERVICE, yes=False)
        assert await status(stub, "") == NOT_SERVING
        listed = await stub.List(health_pb2.HealthListRequest(), timeout=WAIT_S)
        assert set(listed.statuses) == {"", ALIVE, SERVICE}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(stub, "no.such.Service")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await made.stop(0)


async def test_a_watcher_of_health_sees_the_end(world: World, health: Any) -> None:
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    assert (await watch.read()).status == SERVING
    stopping = asyncio.create_task(world.server.stop(WAIT_S))
    assert (await watch.read()).status == NOT_SERVING
    assert await watch.read() is grpc.aio.EOF
    await stopping


async def test_a_stream_ends_first_when_the_server_stops(world: World) -> None:
    texts: list[str] = []

    async def watch() -> None:
        async for answer in world.channel().stream(WATCH, StringValue(), StringValue, signed=True):
            texts.append(answer.value)

    watching = asyncio.create_task(watch())
    await until(lambda: texts == ["1", "2", "3"])
    loop = asyncio.get_running_loop()
    began = loop.time()
    await world.server.stop(WAIT_S)
    assert loop.time() - began < WAIT_S, "the stream did not hold the server"
    with pytest.raises(Failure) as caught:
        await watching
    assert caught.value.code is ErrorCode.STOPPING
    assert caught.value.fields.retryable
    assert world.tiny.streams_ended == 1


async def test_calls_under_way_are_waited_for(world: World) -> None:
    world.tiny.release.clear()
    call = asyncio.create_task(world.say(world.channel(), SIGNED))
    await until(lambda: world.tiny.under_way == 1)
    stopping = asyncio.create_task(world.server.stop(WAIT_S))
    await asyncio.sleep(0)
    world.tiny.release.set()
    assert await call == "hello"
    await stopping


async def test_after_the_grace_calls_are_cut(world: World) -> None:
    world.tiny.release.clear()
    call = asyncio.create_task(world.say(world.channel(), SIGNED))
    await until(lambda: world.tiny.under_way == 1)
    await world.server.stop(0.05)
    with pytest.raises(Failure) as caught:
        await call
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert caught.value.fields.retryable


async def test_stopping_twice_is_stopping_once(world: World) -> None:
    await world.server.stop(0)
    await world.server.stop(0)


async def test_a_watcher_that_leaves_ends_the_stream(world: World) -> None:
    async with aclosing(world.channel().stream(WATCH, StringValue(), StringValue, signed=True)) as answers:  # type: ignore[type-var]
        assert (await anext(answers)).value == "1"
    await until(lambda: world.tiny.streams_ended == 1)


async def test_streams_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_STREAMS", 2)
    channel = world.channel()
    streams = [channel.stream(WATCH, StringValue(), StringValue, signed=True) for _ in range(3)]
    for stream in streams[:2]:
        await anext(stream)
    with pytest.raises(Failure) as caught:
        await anext(streams[2])
    assert (caught.value.code, caught.value.fields.limit) == (ErrorCode.LIMIT_REACHED, "streams")
    assert world.refused("limit", WATCH) == 1
    await streams[0].aclose()  # type: ignore[attr-defined]
    await until(lambda: world.tiny.streams_ended == 1)
    again = channel.stream(WATCH, StringValue(), StringValue, signed=True)
    assert (await anext(again)).value == "1"
    for stream in (streams[1], again):
        await stream.aclose()  # type: ignore[attr-defined]


async def test_the_calls_of_one_key_are_bounded_and_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_CALLS_PER_KEY", 4)
    world.tiny.release.clear()
    channel = world.channel()
    calls = [asyncio.create_task(world.say(channel, SIGNED)) for _ in range(4)]
    await until(lambda: world.tiny.under_way == 4)
    with pytest.raises(Failure) as caught:
        await world.say(channel, SIGNED)
    assert (caught.value.code, caught.value.fields.limit) == (ErrorCode.LIMIT_REACHED, "calls_per_key")
    other = asyncio.create_task(world.say(world.channel(world.stranger), SIGNED))
    await until(lambda: world.tiny.under_way == 5)
    world.tiny.release.set()
    assert await asyncio.gather(*calls, other) == ["hello"] * 5
    assert await world.say(channel, SIGNED) == "hello"


async def test_all_calls_together_are_bounded(world: World, health: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MAX_CALLS", 4)
    world.tiny.release.clear()
    channel = world.channel()
    calls = [asyncio.create_task(world.say(channel, OPEN, signed=False)) for _ in range(4)]
    await until(lambda: world.tiny.under_way == 4)
    with pytest.raises(Failure) as caught:
        await world.say(world.channel(world.stranger), SIGNED)
    assert (caught.value.code, caught.value.fields.limit) == (ErrorCode.LIMIT_REACHED, "calls")
    assert await status(health, SERVICE) == SERVING, "a service that is full is alive"
    world.tiny.release.set()
    assert await asyncio.gather(*calls) == ["hello"] * 4
    assert await world.say(channel, OPEN, signed=False) == "hello"


async def test_a_taken_port_is_said(world: World) -> None:
    made = server()
    with pytest.raises(Failure) as caught:
        await made.listen(world.address)
    assert caught.value.code is ErrorCode.CONFLICT
    assert world.address in caught.value.cause
    for wrong in ("127.0.0.1", ":80", "host:port", ""):
        with pytest.raises(Failure) as caught:
            await made.listen(wrong)
        assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    await made.stop(0)


async def test_the_socket_is_private_exclusive_and_removed(world: World) -> None:
    path = Path(world.socket.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = server()
    with pytest.raises(Failure) as caught:
        await made.listen(world.socket)
    assert caught.value.code is ErrorCode.DUPLICATE_IDENTITY
    assert await world.say(world.channel(address=world.socket), LOCAL, signed=False) == "hello"
    await world.server.stop(0)
    assert not path.exists()
    assert await made.listen(world.socket) == world.socket
    await made.stop(0)


async def test_a_socket_where_nobody_may_make_one_is_told_as_that() -> None:
    made = server()
    with pytest.raises(Failure, match="its directory cannot be written"):
        await made.listen("unix:/proc/self/rpc.sock")
    await made.stop(0)


async def test_a_channel_recovers_by_itself(world: World) -> None:
    channel = world.channel()
    assert await world.say(channel, OPEN, signed=False) == "hello"
    await world.server.stop(0)
    with pytest.raises(Failure):
        await world.say(channel, OPEN, signed=False)
    again = RpcServer(world.secret, ACCESS, replays=world.replays)
    again.add(add_tiny_to_server, Tiny(), SERVICE)
    await again.listen(world.address)
    await again.start()

    async def answered() -> bool:
        try:
            return await world.say(channel, OPEN, signed=False) == "hello"
        except Failure as failure:
            assert failure.code is ErrorCode.UNAVAILABLE
            return False

    async with asyncio.timeout(WAIT_S):
        while not await answered():
            await asyncio.sleep(0.05)
    await again.stop(0)


async def test_the_environments_proxy_is_not_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert await world.say(world.channel(), OPEN, signed=False) == "hello"


async def test_nothing_is_left_of_many_channels(world: World) -> None:
    async def once() -> None:
        channel = RpcChannel(world.address, world.secret.public, world.friend)
        await world.say(channel, SIGNED)
        await channel.close()

    for _ in range(5):
        await once()
    before = descriptors()
    tasks = len(asyncio.all_tasks())
    for _ in range(20):
        await once()
    await until(lambda: descriptors() <= before + 2)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def test_probes_are_answered_apart_until_all_else_has_ended() -> None:
    made = server()
    tiny = Tiny()
    made.add(add_tiny_to_server, tiny, SERVICE)
    address = await made.listen("127.0.0.1:0")
    probes = await made.listen_for_probes("127.0.0.1:0")
    await made.start()
    secret = SecretKey.generate()
    channel = RpcChannel(address, None, secret)
    async with grpc.aio.insecure_channel(probes) as probing:
        stub = health_pb2_grpc.HealthStub(probing)
        # Alive while it is not ready: what it waits for is no reason to end it.
        assert (await status(stub, ALIVE), await status(stub, "")) == (SERVING, NOT_SERVING)
        made.serving(SERVICE, yes=True)
        assert await status(stub, "") == SERVING
        other = RpcChannel(probes, None, secret)
        with pytest.raises(Failure) as caught:
            await other.call(OPEN, StringValue(value="a"), StringValue, timeout=WAIT_S, signed=False)
        assert caught.value.code is ErrorCode.UNIMPLEMENTED
        await other.close()
        # While a call drains, the probe says why nobody else should come.
        tiny.release.clear()
        under_way = asyncio.ensure_future(
            channel.call(OPEN, StringValue(value="last"), StringValue, timeout=WAIT_S, signed=False)
        )
        await until(lambda: tiny.under_way == 1)
        stopping = asyncio.ensure_future(made.stop(WAIT_S))
        async with asyncio.timeout(WAIT_S):
            while await status(stub, "") == SERVING:
                await asyncio.sleep(0.005)
        assert await status(stub, ALIVE) == SERVING
        tiny.release.set()
        assert (await under_way).value == "last"
        await stopping
    await channel.close()


async def test_a_process_says_what_it_is_and_its_owner_sets_its_log_level(short_path: Path) -> None:
    made = server({})
    made.add_process("skywire-tiny", "skywire-common")
    address = await made.listen("127.0.0.1:0")
    await made.listen(f"unix:{short_path / 'admin.sock'}")
    await made.start()
    over_tcp = RpcChannel(address, None, None)
    local = RpcChannel(f"unix:{short_path / 'admin.sock'}", None, None)
    process = f"/{PROCESS}/"
    said = await over_tcp.call(
        f"{process}GetBuildInfo", pb.GetBuildInfoRequest(), pb.GetBuildInfoResponse, timeout=WAIT_S, signed=False
    )
    assert said.service == "skywire-tiny"
    assert said.build.version == importlib.metadata.version("skywire-common")
    assert len(said.build.public_key) == 33
    before = logging.current_level()
    for level in ("debug", "error", before):
        request = pb.SetLogLevelRequest(level=level)
        with pytest.raises(Failure) as caught:
            await over_tcp.call(f"{process}SetLogLevel", request, pb.SetLogLevelResponse, timeout=WAIT_S, signed=False)
        assert caught.value.code is ErrorCode.PERMISSION_DENIED
        await local.call(f"{process}SetLogLevel", request, pb.SetLogLevelResponse, timeout=WAIT_S, signed=False)
        found = await local.call(
            f"{process}GetLogLevel", pb.GetLogLevelRequest(), pb.GetLogLevelResponse, timeout=WAIT_S, signed=False
        )
        assert found.level == logging.current_level() == level
    with pytest.raises(Failure, match="one of debug, info, warning, error"):
        await local.call(
            f"{process}SetLogLevel",
            pb.SetLogLevelRequest(level="loud"),
            pb.SetLogLevelResponse,
            timeout=WAIT_S,
            signed=False,
        )
    await over_tcp.close()
    await local.close()
    await made.stop(0)
