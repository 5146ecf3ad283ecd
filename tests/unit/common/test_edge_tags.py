"""Tags of a loop's edges: one per edge and set-up, useless without the salt."""

from __future__ import annotations

import hashlib
import random

from skywire_common.curve import SecretKey
from skywire_common.edge_tags import SALT_SIZE, TAG_SIZE, edge_tag, edge_tags, is_edge

INITIATOR, RESPONDER, STRANGER = (SecretKey.generate().public for _ in range(3))


def test_a_tag_is_made_of_salt_set_up_and_key() -> None:
    salt, setup_id = random.randbytes(SALT_SIZE), random.randbytes(16)
    whole = hashlib.sha256(b"skywire edge 1" + salt + setup_id + bytes(INITIATOR)).digest()
    assert edge_tag(salt, setup_id, INITIATOR) == whole[:TAG_SIZE]


def test_both_edges_are_edges_and_nobody_else_is() -> None:
    salt, setup_id = random.randbytes(SALT_SIZE), random.randbytes(16)
    tags = edge_tags(salt, setup_id, INITIATOR, RESPONDER)
    assert all(is_edge(tags, edge_tag(salt, setup_id, edge)) for edge in (INITIATOR, RESPONDER))
    others = [
        edge_tag(salt, setup_id, STRANGER),
        edge_tag(bytes(SALT_SIZE), setup_id, INITIATOR),
        edge_tag(salt, bytes(16), INITIATOR),
        tags,
        tags[:8],
        tags[8:24],
        b"",
    ]
    assert not any(is_edge(tags, other) for other in others)
    assert not is_edge(b"", b"")
    assert not is_edge(b"", edge_tag(salt, setup_id, INITIATOR))
