"""Settlement: what either end accepts, and what neither does."""

from __future__ import annotations

import random

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError
from skywire_node.link import settlement

RANDOM = random.Random(22)


def secret() -> SecretKey:
    return SecretKey(RANDOM.randbytes(32))


@pytest.mark.parametrize("public", [True, False])
def test_both_ends_hold_the_same_entry_with_both_signatures(public: bool) -> None:
    a, b = secret(), secret()
    proposed = settlement.propose(a, b.public, "tcp", public)
    accepted = settlement.accept(b, a.public, "tcp", proposed.to_json())
    settled = settlement.complete(proposed, a, b.public, accepted._replace(registered=17).to_json())
    settled.check()
    assert settled.registered == 17
    assert settled.entry == accepted.entry


def test_a_dialler_cannot_claim_that_it_is_registered() -> None:
    a, b = secret(), secret()
    proposed = settlement.propose(a, b.public, "tcp", True)._replace(registered=99)
    assert settlement.accept(b, a.public, "tcp", proposed.to_json()).registered == 0


def test_an_entry_of_others_an_unsigned_one_and_another_type_are_refused() -> None:
    a, b, c = secret(), secret(), secret()
    of_others = settlement.propose(a, c.public, "tcp", True)
    unsigned = settlement.propose(a, b.public, "tcp", True)._replace(signatures=(b"", b""))
    other_type = settlement.propose(a, b.public, "quic", True)
    for proposed in (of_others, unsigned, other_type):
        with pytest.raises(DecodeError):
            settlement.accept(b, a.public, "tcp", proposed.to_json())
    for body in (b"", b"{}", b"[]", b"\xff", b"{" * 3000):
        with pytest.raises(DecodeError):
            settlement.accept(b, a.public, "tcp", body)


def test_an_answer_about_another_entry_or_without_a_signature_is_refused() -> None:
    a, b = secret(), secret()
    proposed = settlement.propose(a, b.public, "tcp", True)
    private = settlement.accept(b, a.public, "tcp", settlement.propose(a, b.public, "tcp", False).to_json())
    for answer in (private, proposed):
        with pytest.raises(DecodeError):
            settlement.complete(proposed, a, b.public, answer.to_json())
