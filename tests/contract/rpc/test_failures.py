"""What a handler raises, and what the caller gets of it."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from typing import Any

import grpc
import pytest
import structlog
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, LinkError, LocalError, Phase
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.options import MAX_MESSAGE
from skywire_common.runtime import logging

from .conftest import OPEN, SERVICE, World

FAILURE = Failure(
    ErrorCode.NO_ROUTE,
    "no way to the höhle — none",
    FailureFields(
        phase=Phase.RESERVE,
        hop_index=0,
        hop_key=b"\x02" + bytes(32),
        transport_id=bytes(range(16)),
        setup_id=bytes(range(1, 17)),
        retryable=True,
        limit="loops",
    ),
)


async def failure_of(world: World, error: Exception) -> Failure:
    world.tiny.error = error
    with pytest.raises(Failure) as caught:
        await world.say(world.channel(), OPEN, signed=False)
    return caught.value


@pytest.fixture
def logged() -> Any:
    """Every line that is logged in the test, parsed."""
    stream = BytesIO()
    before = structlog.get_config()
    logging.configure("debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**before)


async def test_a_failure_arrives_whole(world: World) -> None:
    got = await failure_of(world, FAILURE)
    assert (got.code, got.cause, got.fields) == (FAILURE.code, FAILURE.cause, FAILURE.fields)
    assert world.counted("grpc_server_handled_total", grpc_code="NOT_FOUND") == 1


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_every_code_arrives(world: World, code: ErrorCode) -> None:
    assert (await failure_of(world, Failure(code, "why"))).code is code


async def test_a_long_cause_is_cut_and_arrives(world: World) -> None:
    got = await failure_of(world, Failure(ErrorCode.CONFLICT, "ö" * 100_000))
    assert got.code is ErrorCode.CONFLICT
    assert got.cause.startswith("öööö")
    assert got.cause.endswith("…")


async def test_a_decode_error_is_the_callers_fault(world: World) -> None:
    got = await failure_of(world, DecodeError("setup_id has 16 bytes, not 3"))
    assert (got.code, got.cause) == (ErrorCode.INVALID_ARGUMENT, "setup_id has 16 bytes, not 3")


@pytest.mark.parametrize("error", [KeyError("the secret plan"), LocalError("the secret plan"), LinkError("the plan")])
async def test_anything_else_is_internal_and_says_nothing(logged: Any, short_path: Any, error: Exception) -> None:
    world = World(short_path)
    await world.start()
    try:
        got = await failure_of(world, error)
    finally:
        await world.stop()
    assert got.code is ErrorCode.INTERNAL
    assert "plan" not in str(got)
    (line,) = [line for line in logged() if line["event"] == "call failed"]
    assert line["method"] == OPEN
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert "plan" in line["exception"]


async def test_bytes_that_are_no_message_are_the_callers_fault(world: World) -> None:
    async with grpc.aio.insecure_channel(world.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(OPEN)(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_answer_that_is_no_such_message_is_a_failure(world: World) -> None:
    # Field 1 of a Struct is a map entry, which this text is not.
    with pytest.raises(Failure) as caught:
        await world.channel().call(OPEN, StringValue(value="\x7f"), Struct, timeout=10, signed=False)
    assert caught.value.code is ErrorCode.INTERNAL
    assert "Struct" in caught.value.cause


async def test_a_method_that_nobody_serves_is_unimplemented(world: World) -> None:
    for path in (f"/{SERVICE}/Missing", "/no.such.Service/Method"):
        with pytest.raises(Failure) as caught:
            await world.say(world.channel(), path, signed=False)
        assert caught.value.code is ErrorCode.UNIMPLEMENTED


async def test_a_method_without_body_is_unimplemented(world: World) -> None:
    assert (await failure_of(world, NotImplementedError())).code is ErrorCode.UNIMPLEMENTED


async def test_a_late_answer_is_a_deadline_and_the_handler_ends(world: World) -> None:
    world.tiny.release.clear()
    with pytest.raises(Failure) as caught:
        await world.channel().call(OPEN, StringValue(), StringValue, timeout=0.2, signed=False)
    assert caught.value.code is ErrorCode.DEADLINE
    assert caught.value.fields.retryable
    async with asyncio.timeout(10):
        while world.tiny.under_way:
            await asyncio.sleep(0.01)
    assert world.counted("grpc_server_handled_total", grpc_code="CANCELLED") == 1


async def test_a_cancelled_call_ends_its_handler(world: World) -> None:
    world.tiny.release.clear()
    call = asyncio.create_task(world.say(world.channel(), OPEN, signed=False))
    async with asyncio.timeout(10):
        while not world.tiny.under_way:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while world.tiny.under_way:
            await asyncio.sleep(0.01)


async def test_a_peer_that_is_away_is_unavailable(world: World) -> None:
    await world.server.stop(0)
    with pytest.raises(Failure) as caught:
        await world.say(world.channel(), OPEN, signed=False)
    assert caught.value.code is ErrorCode.UNAVAILABLE
    assert caught.value.fields.retryable


async def test_requests_and_answers_are_bounded(world: World) -> None:
    with pytest.raises(Failure) as caught:
        await world.say(world.channel(), OPEN, "x" * (MAX_MESSAGE + 1), signed=False)
    assert caught.value.code is ErrorCode.LIMIT_REACHED
    small = RpcChannel(world.address, None, None, max_message=1_000)
    with pytest.raises(Failure) as caught:
        await world.say(small, OPEN, "x" * 2_000, signed=False)
    assert caught.value.code is ErrorCode.LIMIT_REACHED
    await small.close()


async def test_closing_a_channel_ends_its_calls_with_the_reason(world: World) -> None:
    world.tiny.release.clear()
    channel = world.channel()
    call = asyncio.create_task(world.say(channel, OPEN, signed=False))
    async with asyncio.timeout(10):
        while not world.tiny.under_way:
            await asyncio.sleep(0.01)
    await channel.close()
    with pytest.raises(Failure) as caught:
        await call
    assert caught.value.code is ErrorCode.CLOSED
    with pytest.raises(Failure) as caught:
        await world.say(channel, OPEN, signed=False)
    assert caught.value.code is ErrorCode.CLOSED
