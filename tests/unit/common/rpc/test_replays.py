"""Each signed call is good once; what is remembered is bounded and forgotten in time."""

from __future__ import annotations

import secrets

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.rpc.replays import MAX_REMEMBERED, MAX_REMEMBERED_PER_KEY, REMEMBER_S, MemoryReplays

START = 1_000.0 + secrets.randbelow(10**6)
UNTIL = 1_700_000_000.0 + secrets.randbelow(10**6)


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def key() -> PublicKey:
    return SecretKey.generate().public


async def test_the_second_use_is_told() -> None:
    replays = MemoryReplays()
    caller, nonce = key(), secrets.token_bytes(16)
    assert await replays.first_use(caller, nonce, UNTIL)
    assert not await replays.first_use(caller, nonce, UNTIL)
    assert len(replays) == 1


async def test_the_same_random_bytes_of_two_keys_are_two_calls() -> None:
    replays = MemoryReplays()
    nonce = secrets.token_bytes(16)
    assert await replays.first_use(key(), nonce, UNTIL)
    assert await replays.first_use(key(), nonce, UNTIL)


async def test_a_call_is_remembered_for_its_whole_window_and_then_forgotten() -> None:
    clock = Clock()
    replays = MemoryReplays(monotonic=clock)
    caller, nonce = key(), secrets.token_bytes(16)
    assert await replays.first_use(caller, nonce, UNTIL)
    clock.now += REMEMBER_S
    assert not await replays.first_use(caller, nonce, UNTIL)
    clock.now += 1
    assert await replays.first_use(caller, secrets.token_bytes(16), UNTIL + REMEMBER_S)
    assert len(replays) == 1


async def test_the_calls_of_one_key_are_bounded() -> None:
    clock = Clock()
    replays = MemoryReplays(capacity=10, per_key=3, monotonic=clock)
    caller = key()
    for _ in range(3):
        assert await replays.first_use(caller, secrets.token_bytes(16), UNTIL)
    with pytest.raises(Failure) as caught:
        await replays.first_use(caller, secrets.token_bytes(16), UNTIL)
    assert caught.value.code is ErrorCode.LIMIT_REACHED
    assert caught.value.fields.limit == "remembered_calls_per_key"
    assert await replays.first_use(key(), secrets.token_bytes(16), UNTIL), "others are not affected"
    clock.now += REMEMBER_S + 1
    assert await replays.first_use(caller, secrets.token_bytes(16), UNTIL + REMEMBER_S)


async def test_all_calls_together_are_bounded() -> None:
    replays = MemoryReplays(capacity=10, per_key=3)
    for _ in range(10):
        assert await replays.first_use(key(), secrets.token_bytes(16), UNTIL)
    with pytest.raises(Failure) as caught:
        await replays.first_use(key(), secrets.token_bytes(16), UNTIL)
    assert caught.value.fields.limit == "remembered_calls"
    assert len(replays) == 10


async def test_what_a_service_remembers_is_bounded_unless_it_says_otherwise() -> None:
    replays = MemoryReplays()
    busy = key()
    # As if so many had come: that many calls would take half a second.
    replays._count[busy], replays._total = MAX_REMEMBERED_PER_KEY - 1, MAX_REMEMBERED - 2
    assert await replays.first_use(busy, secrets.token_bytes(16), UNTIL)
    with pytest.raises(Failure) as caught:
        await replays.first_use(busy, secrets.token_bytes(16), UNTIL)
    assert caught.value.fields.limit == "remembered_calls_per_key"
    assert await replays.first_use(key(), secrets.token_bytes(16), UNTIL)
    with pytest.raises(Failure) as caught:
        await replays.first_use(key(), secrets.token_bytes(16), UNTIL)
    assert caught.value.fields.limit == "remembered_calls"


async def test_a_replay_is_told_even_when_nothing_more_fits() -> None:
    replays = MemoryReplays(capacity=1)
    caller, nonce = key(), secrets.token_bytes(16)
    assert await replays.first_use(caller, nonce, UNTIL)
    assert not await replays.first_use(caller, nonce, UNTIL)


async def test_memory_returns_to_nothing() -> None:
    clock = Clock()
    replays = MemoryReplays(monotonic=clock)
    callers = [key() for _ in range(5)]
    for step in range(1_000):
        assert await replays.first_use(callers[step % 5], secrets.token_bytes(16), UNTIL + step / 10)
        clock.now += 0.1
    clock.now += REMEMBER_S + 1
    await replays.first_use(callers[0], secrets.token_bytes(16), UNTIL + 1_000)
    assert len(replays) == 1
    assert len(replays._buckets) == 1
    assert list(replays._count) == [callers[0]]
