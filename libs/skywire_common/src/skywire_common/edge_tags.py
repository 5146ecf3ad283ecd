"""Who may have a loop's rules renewed or removed: its two edges, whom the nodes between do not get to know.

With the rules of a set-up every node keeps one tag for each edge:

    tag = first 16 bytes of SHA-256("skywire edge 1" ‖ salt 16 ‖ set-up id 16 ‖ public key 33)

The initiator draws the salt; it goes to setup nodes and to the responder. An edge that calls a setup node brings the
salt, the setup node makes the tag of the key that signed the call, and the node compares. So a stranger who has seen
set-up id and route ids, in a log or as a node of the route, can do nothing with them, with the salt neither; and a
node between cannot try keys against the tags that it keeps.
"""

from __future__ import annotations

import hashlib

from skywire_common.keys import PublicKey

SALT_SIZE = 16
TAG_SIZE = 16
_PURPOSE = b"skywire edge 1"


def edge_tag(salt: bytes, setup_id: bytes, edge: PublicKey) -> bytes:
    """Return the tag of one edge in one set-up, 16 bytes."""
    return hashlib.sha256(_PURPOSE + salt + setup_id + edge).digest()[:TAG_SIZE]


def edge_tags(salt: bytes, setup_id: bytes, initiator: PublicKey, responder: PublicKey) -> bytes:
    """Return the tags of both edges, 32 bytes, as nodes keep them."""
    return edge_tag(salt, setup_id, initiator) + edge_tag(salt, setup_id, responder)


def is_edge(tags: bytes, tag: bytes) -> bool:
    """Say whether the tag is one of those kept; never for rules that were kept without any."""
    return bool(tag) and tag in (tags[:TAG_SIZE], tags[TAG_SIZE:])
