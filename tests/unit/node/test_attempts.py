"""Attempts at one set-up: a later one stands, whatever comes after it."""

from __future__ import annotations

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.loops import attempts as module
from skywire_node.loops.attempts import Attempts
from skywire_node.loops.loop_setup import Offer

NEAR, OTHER, FAR = (SecretKey.generate().public for _ in range(3))


def offer(attempt: int, setup_id: bytes = bytes(16)) -> Offer:
    ends = Addr(NEAR, 50_000), Addr(FAR, 40)
    return Offer(setup_id, b"", *ends, 5, bytes(49), 1, 2, (), FAR, bytes(16), attempt)


def take(attempts: Attempts, *offers: Offer) -> None:
    for one in offers:
        attempts.refuse_late(one)
        attempts.taken(one)


def test_a_later_attempt_is_taken_and_an_earlier_one_is_not_any_more() -> None:
    attempts = Attempts()
    take(attempts, offer(0), offer(0), offer(1), offer(2), offer(2))
    for late in (0, 1):
        with pytest.raises(Failure) as caught:
            attempts.refuse_late(offer(late))
        assert (caught.value.code, caught.value.fields.setup_id) == (ErrorCode.ALREADY_EXISTS, bytes(16))


def test_set_ups_and_initiators_are_apart() -> None:
    attempts = Attempts()
    take(attempts, offer(1), offer(0, b"another set-up.."), offer(0)._replace(initiator=Addr(OTHER, 50_000)))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    attempts = Attempts()
    for number in range(5):
        take(attempts, offer(0, bytes([number] * 16)))
    assert attempts.remembered == 0  # which nearly all are: one setup node is enough
    for number in range(5):
        take(attempts, offer(1, bytes([number] * 16)))
    assert attempts.remembered == 3
    take(attempts, offer(0, bytes(16)))
    with pytest.raises(Failure):
        attempts.refuse_late(offer(0, bytes([4] * 16)))
