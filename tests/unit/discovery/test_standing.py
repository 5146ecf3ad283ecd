"""The rules of up and down, and of who holds a key."""

from __future__ import annotations

import itertools
import random

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_transport_discovery.standing import HOLD_MS, LEASE_MS, LEASE_S, EdgeState, Heartbeat, is_up, renew

KEY = SecretKey.generate().public
NOW = random.randrange(1 << 40)


@pytest.mark.parametrize("words", list(itertools.product([None, True, False], repeat=2)))
@pytest.mark.parametrize("lives", list(itertools.product([True, False], repeat=2)))
def test_up_is_said_by_all_who_spoke_while_both_live(
    words: tuple[bool | None, bool | None], lives: tuple[bool, bool]
) -> None:
    states = [EdgeState(word is not None, bool(word), 1, alive) for word, alive in zip(words, lives, strict=True)]
    wanted = all(lives) and words in {(True, None), (None, True), (True, True)}
    assert is_up(states[0], states[1]) == wanted


def test_the_lease_ends_within_the_minute_that_nodes_are_told() -> None:
    assert LEASE_MS < LEASE_S * 1000 == 60_000
    assert HOLD_MS < LEASE_MS


def test_a_key_is_held_for_the_epoch_heard_from_last() -> None:
    first, second = Heartbeat(KEY, 1, (), 0), Heartbeat(KEY, 2, (), 0)
    node = renew(None, first, NOW)
    assert (node.alive, node.lease_until_ms) == (True, NOW + LEASE_MS)
    for later in (0, 1, HOLD_MS - 1):
        with pytest.raises(Failure) as failure:
            renew(node, second, NOW + later)
        assert failure.value.code == ErrorCode.DUPLICATE_IDENTITY
        assert failure.value.fields.retryable
        assert renew(node, first, NOW + later).epoch == 1
        assert renew(node, second._replace(replaces=1), NOW + later).epoch == 2
    assert renew(node, second, NOW + HOLD_MS).epoch == 2
    assert renew(renew(node, first._replace(stopping=True), NOW + 1), second, NOW + 2).epoch == 2
