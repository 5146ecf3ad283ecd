"""The handshake of a link, and everyone it must turn away."""

from __future__ import annotations

import random

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import LinkError
from skywire_node.link.handshake import MAX_MESSAGE, LinkHandshake

RANDOM = random.Random(21)


def secret() -> SecretKey:
    return SecretKey(RANDOM.randbytes(32))


def shake(dialler: LinkHandshake, acceptor: LinkHandshake, step: int = 1 << 20) -> None:
    ends = [(dialler.begin(), acceptor), (b"", dialler)]
    while ends:
        data, to = ends.pop(0)
        answer = b""
        for at in range(0, len(data), step):
            answer += to.feed(data[at : at + step])
        if answer:
            ends.append((answer, dialler if to is acceptor else acceptor))


@pytest.mark.parametrize("step", [1, 3, 1 << 20])
def test_both_sides_learn_who_the_other_is_and_share_keys(step: int) -> None:
    a, b = secret(), secret()
    dialler, acceptor = LinkHandshake(a, secret(), b.public), LinkHandshake(b, secret(), None)
    shake(dialler, acceptor, step)
    assert dialler.finished and acceptor.finished
    assert (dialler.remote, acceptor.remote) == (b.public, a.public)
    seal, _, rest = dialler.split()
    _, open_, _ = acceptor.split()
    assert open_.open(0, seal.seal(0, b"first")) == b"first"
    assert rest == b""


def test_bytes_behind_the_handshake_are_kept() -> None:
    a, b = secret(), secret()
    dialler, acceptor = LinkHandshake(a, secret(), b.public), LinkHandshake(b, secret(), None)
    last = dialler.feed(acceptor.feed(dialler.begin()))
    acceptor.feed(last + b"records")
    assert acceptor.split()[2] == b"records"


def test_an_acceptor_with_another_key_is_found_out() -> None:
    a, b, other = secret(), secret(), secret()
    dialler, acceptor = LinkHandshake(a, secret(), b.public), LinkHandshake(other, secret(), None)
    with pytest.raises(LinkError):
        acceptor.feed(dialler.begin())


def test_a_message_over_the_size_is_bounded() -> None:
    acceptor = LinkHandshake(secret(), secret(), None)
    with pytest.raises(LinkError):
        acceptor.feed((MAX_MESSAGE + 1).to_bytes(2, "big"))


def test_any_changed_byte_ends_it() -> None:
    a, b = secret(), secret()
    first = LinkHandshake(a, secret(), b.public).begin()
    for at in range(len(first)):
        changed = bytearray(first)
        changed[at] ^= 0x40
        acceptor = LinkHandshake(b, secret(), None)
        try:
            acceptor.feed(bytes(changed))
        except LinkError:
            continue
        assert not acceptor.finished, f"byte {at} changed and nobody noticed"
