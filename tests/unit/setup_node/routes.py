"""Routes for tests of the setup node: keys and transports that no two tests share."""

from __future__ import annotations

import itertools
import random
from uuid import UUID

from skywire_common.curve import SecretKey
from skywire_common.entries import transport_id
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import Hop, Path, PathPair
from skywire_setup_node.plan import LoopRequest

KEYS = [SecretKey.generate().public for _ in range(12)]


def path(*through: PublicKey) -> Path:
    """Return the path through these nodes, over the transports between neighbours."""
    return tuple(Hop(a, b, transport_id(a, b, "tcp", public=True)) for a, b in itertools.pairwise(through))


def request(rng: random.Random, forward: list[PublicKey], reverse: list[PublicKey], **changes: object) -> LoopRequest:
    """Return a checked request for a new loop over these nodes, edges included."""
    made = LoopRequest(
        setup_id=rng.randbytes(16),
        loop_id=b"",
        initiator=Addr(forward[0], rng.randrange(1, 65536)),
        responder=Addr(forward[-1], rng.randrange(1, 65536)),
        initiator_epoch=rng.getrandbits(64),
        routes=PathPair(path(*forward), path(*reverse)),
        forward_id=rng.randrange(1, 1 << 31),
        app_id=rng.randrange(1 << 31, 1 << 32),
        noise_message=rng.randbytes(49),
        edge_salt=rng.randbytes(16),
    )
    return made._replace(**changes).check()  # type: ignore[arg-type]


def any_request(seed: int, **changes: object) -> LoopRequest:
    """Return a request over one to four hops each way, the ways the same, crossing or apart."""
    rng = random.Random(seed)
    a, b, *between = rng.sample(KEYS, len(KEYS))
    there = rng.sample(between, rng.randrange(4))
    back = there[::-1] if rng.random() < 0.4 else rng.sample(between, rng.randrange(4))
    return request(rng, [a, *there, b], [b, *back, a], **changes)


def stranger() -> UUID:
    """Return a transport that is on no path."""
    return UUID(int=random.getrandbits(128))
