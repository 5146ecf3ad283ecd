"""Handshakes of loops: bound to what they are for, answered once."""

from __future__ import annotations

import random

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.loops import greeting
from skywire_node.loops.greeting import Greetings
from skywire_node.loops.loop_setup import Offer

RANDOM = random.Random(41)
NEAR, FAR = SecretKey.generate(), SecretKey.generate()


def greetings(secret: SecretKey) -> Greetings:
    return Greetings(secret, RANDOM.randbytes)


def offer(message: bytes, loop_id: bytes, epoch: int = 5) -> Offer:
    ends = Addr(NEAR.public, 50_000), Addr(FAR.public, 40)
    return Offer(loop_id, b"", *ends, epoch, message, 1, 2, (), FAR.public, bytes(16))


def test_both_sides_agree_on_keys() -> None:
    loop_id = RANDOM.randbytes(16)
    begun = greetings(NEAR).begin(loop_id, Addr(NEAR.public, 50_000), Addr(FAR.public, 40), 5)
    answered, answer = greetings(FAR).answer(offer(begun.write(), loop_id))
    begun.read(answer)
    (seal, open_), (their_seal, their_open) = begun.split(), answered.split()
    assert their_open.open(0, seal.seal(0, b"there")) == b"there"
    assert open_.open(0, their_seal.seal(0, b"back")) == b"back"


@pytest.mark.parametrize("change", [{"setup_id": bytes(16)}, {"initiator_epoch": 6}])
def test_a_message_means_one_loop_of_one_life(change: dict[str, object]) -> None:
    loop_id = RANDOM.randbytes(16)
    begun = greetings(NEAR).begin(loop_id, Addr(NEAR.public, 50_000), Addr(FAR.public, 40), 5)
    with pytest.raises(Failure) as caught:
        greetings(FAR).answer(offer(begun.write(), loop_id)._replace(**change))  # type: ignore[arg-type]
    assert caught.value.code is ErrorCode.HANDSHAKE_FAILED


def test_an_answer_by_another_node_is_not_taken() -> None:
    loop_id = RANDOM.randbytes(16)
    begun = greetings(NEAR).begin(loop_id, Addr(NEAR.public, 50_000), Addr(FAR.public, 40), 5)
    begun.write()
    with pytest.raises(DecodeError):
        begun.read(bytes(49))


def test_a_first_message_is_answered_once_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "MAX_SEEN", 3)
    far, near = greetings(FAR), greetings(NEAR)
    offers = []
    for _ in range(5):
        loop_id = RANDOM.randbytes(16)
        begun = near.begin(loop_id, Addr(NEAR.public, 50_000), Addr(FAR.public, 40), 5)
        offers.append(offer(begun.write(), loop_id))
        far.refuse_seen(offers[-1])
        far.answer(offers[-1])
        with pytest.raises(Failure) as caught:
            far.refuse_seen(offers[-1])
        assert caught.value.code is ErrorCode.REPLAYED
    assert far.remembered == 3
