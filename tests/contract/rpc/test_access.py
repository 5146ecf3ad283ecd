"""Who gets through the gate and who does not (F8): every refusal has its code, is counted, and changes nothing."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.rpc import identity
from skywire_common.rpc.status import from_error

from .conftest import LOCAL, OPEN, SIGNED, TRUSTED, WATCH, World

REQUEST = StringValue(value="request").SerializeToString()


async def failure_of(work: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


async def raw_call(world: World, path: str, request: bytes, *values: bytes) -> bytes:
    """Call with bytes and identities as given, past our own client."""
    async with grpc.aio.insecure_channel(world.address) as channel:
        metadata = tuple((identity.METADATA_KEY, value) for value in values)
        try:
            return bytes(await channel.unary_unary(path)(request, metadata=metadata, timeout=10))
        except grpc.aio.AioRpcError as error:
            raise from_error(error) from error


def stamp(
    world: World, path: str, request: bytes, *, secret: SecretKey | None = None, at: float | None = None
) -> bytes:
    return identity.sign(
        secret or world.friend,
        world.secret.public,
        path,
        request,
        time_ms=int((time.time() if at is None else at) * 1000),
        random=secrets.token_bytes(identity.RANDOM_SIZE),
    )


async def test_rightful_calls_pass(world: World) -> None:
    channel = world.channel()
    assert await world.say(channel, OPEN, "one", signed=False) == "one"
    assert await world.say(channel, SIGNED, "two") == "two"
    assert await world.say(channel, TRUSTED, "three") == "three"
    local = world.channel(address=world.socket)
    assert await world.say(local, LOCAL, "four", signed=False) == "four"
    assert await world.say(local, SIGNED, "five") == "five"
    assert world.tiny.callers == [world.friend.public] * 3
    assert world.counted("grpc_server_handled_total", grpc_code="OK", grpc_method="Signed") == 2
    assert world.counted("grpc_server_started_total", grpc_method="Signed") == 2
    assert world.counted("grpc_server_handling_seconds_count", grpc_method="Signed") == 2
    assert world.counted("skywire_rpc_refused_total") == 0


@pytest.mark.parametrize("path", [SIGNED, TRUSTED])
async def test_an_unsigned_call_is_refused(world: World, path: str) -> None:
    failure = await failure_of(raw_call(world, path, b""))
    assert failure.code is ErrorCode.UNAUTHENTICATED
    assert world.refused("unsigned", path) == 1
    assert world.counted("grpc_server_handled_total", grpc_code="UNAUTHENTICATED") == 1
    assert not world.tiny.callers


async def test_a_call_meant_for_another_service_is_refused(world: World) -> None:
    channel = world.channel(audience=SecretKey.generate().public)
    failure = await failure_of(world.say(channel, SIGNED))
    assert failure.code is ErrorCode.UNAUTHENTICATED
    assert str(world.secret.public) in failure.cause
    assert world.refused("forged", SIGNED) == 1
    assert not world.tiny.callers


async def test_a_replayed_call_is_refused(world: World) -> None:
    value = stamp(world, SIGNED, REQUEST)
    await raw_call(world, SIGNED, REQUEST, value)
    failure = await failure_of(raw_call(world, SIGNED, REQUEST, value))
    assert failure.code is ErrorCode.REPLAYED
    assert world.refused("replayed", SIGNED) == 1
    assert len(world.tiny.callers) == 1


async def test_of_many_copies_at_once_one_passes(world: World) -> None:
    value = stamp(world, SIGNED, REQUEST)
    ended = await asyncio.gather(*(raw_call(world, SIGNED, REQUEST, value) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(end, bytes) for end in ended) == 1
    assert world.refused("replayed", SIGNED) == 9
    assert len(world.tiny.callers) == 1


async def test_a_signature_of_one_method_is_refused_at_another(world: World) -> None:
    failure = await failure_of(raw_call(world, TRUSTED, b"", stamp(world, SIGNED, b"")))
    assert failure.code is ErrorCode.UNAUTHENTICATED
    assert world.refused("forged", TRUSTED) == 1


async def test_a_changed_request_is_refused(world: World) -> None:
    value = stamp(world, SIGNED, REQUEST)
    changed = StringValue(value="Request").SerializeToString()
    failure = await failure_of(raw_call(world, SIGNED, changed, value))
    assert failure.code is ErrorCode.UNAUTHENTICATED
    assert world.refused("forged", SIGNED) == 1
    assert not world.tiny.callers


async def test_the_bytes_that_came_are_what_is_checked(world: World) -> None:
    # The same message with its field written twice: parsed it is equal, as bytes it is not.
    assert StringValue.FromString(REQUEST * 2) == StringValue.FromString(REQUEST)
    failure = await failure_of(raw_call(world, SIGNED, REQUEST * 2, stamp(world, SIGNED, REQUEST)))
    assert failure.code is ErrorCode.UNAUTHENTICATED


async def test_an_untrusted_key_is_refused(world: World) -> None:
    channel = world.channel(world.stranger)
    failure = await failure_of(world.say(channel, TRUSTED))
    assert failure.code is ErrorCode.PERMISSION_DENIED
    assert world.refused("untrusted", TRUSTED) == 1
    assert len(world.replays) == 0, "a stranger takes no room among the remembered calls"
    assert not world.tiny.callers


async def test_a_local_method_is_refused_over_tcp(world: World) -> None:
    channel = world.channel()
    for signed in (False, True):
        failure = await failure_of(world.say(channel, LOCAL, signed=signed))
        assert failure.code is ErrorCode.PERMISSION_DENIED
    assert world.refused("not_local", LOCAL) == 2


@pytest.mark.parametrize("skew", [-600, 600, -3600, 3600])
async def test_a_wrong_clock_is_corrected_once(world: World, skew: int) -> None:
    channel = world.channel(clock=lambda: time.time() + skew)
    await world.say(channel, SIGNED)
    await world.say(channel, SIGNED)
    assert world.refused("skewed", SIGNED) == 1, "the offset is kept"
    assert len(world.tiny.callers) == 2


async def test_a_clock_that_jumps_is_corrected_again(world: World) -> None:
    skew = 600.0
    channel = world.channel(clock=lambda: time.time() + skew)
    await world.say(channel, SIGNED)
    skew = 0.0
    await world.say(channel, SIGNED)
    assert world.refused("skewed", SIGNED) == 2


async def test_a_clock_that_cannot_be_corrected_is_told(world: World) -> None:
    ahead = iter(range(600, 60_000, 600))
    channel = world.channel(clock=lambda: time.time() + next(ahead))
    failure = await failure_of(world.say(channel, SIGNED))
    assert failure.code is ErrorCode.CLOCK_SKEW
    assert abs(failure.fields.server_time_ms / 1000 - time.time()) < 60
    assert world.refused("skewed", SIGNED) == 2, "one retry, not more"
    assert not world.tiny.callers


async def test_64_calls_of_one_key_at_once_all_pass(world: World) -> None:
    channel = world.channel()
    await asyncio.gather(*(world.say(channel, SIGNED) for _ in range(64)))
    assert len(world.tiny.callers) == 64
    assert world.counted("skywire_rpc_refused_total") == 0


async def test_a_stream_is_checked_like_any_call(world: World) -> None:
    unsigned = world.channel().stream(WATCH, StringValue(), StringValue)
    assert (await failure_of(anext(unsigned))).code is ErrorCode.UNAUTHENTICATED
    skewed = world.channel(clock=lambda: time.time() - 600).stream(WATCH, StringValue(), StringValue, signed=True)
    assert (await anext(skewed)).value == "1"
    assert world.refused("unsigned", WATCH) == 1
    assert world.refused("skewed", WATCH) == 1
    assert world.tiny.callers == [world.friend.public]
    await skewed.aclose()  # type: ignore[attr-defined]


@given(
    path=st.sampled_from((OPEN, SIGNED, TRUSTED, LOCAL)),
    request=st.binary(max_size=200),
    values=st.lists(st.binary(max_size=200), max_size=3),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_bytes_are_answered_or_refused(world: World, path: str, request: bytes, values: list[bytes]) -> None:
    try:
        await raw_call(world, path, request, *values)
    except Failure as failure:
        assert failure.code in (
            ErrorCode.INVALID_ARGUMENT,
            ErrorCode.UNAUTHENTICATED,
            ErrorCode.PERMISSION_DENIED,
        )
    assert not world.tiny.callers


async def test_a_signed_call_without_keys_is_our_own_fault(world: World) -> None:
    channel = world.channel()
    channel._secret = None
    with pytest.raises(LocalError):
        await world.say(channel, SIGNED)
