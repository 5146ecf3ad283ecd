"""Paths through the network: what a route finder finds and a set-up installs."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey

MAX_HOPS = 32


class Hop(NamedTuple):
    """One step: over a transport to its other edge."""

    source: PublicKey
    target: PublicKey
    transport: UUID


Path = tuple[Hop, ...]


class PathPair(NamedTuple):
    """A way there and the way back."""

    forward: Path
    reverse: Path


def nodes(path: Path) -> tuple[PublicKey, ...]:
    """Return the nodes in order, source and target included."""
    return (path[0].source, *(hop.target for hop in path))


def check_path(path: Path, source: PublicKey, target: PublicKey) -> None:
    """Check that the path leads from source to target in 1 to MAX_HOPS hops without a gap or a repeated node.

    Raises DecodeError that names the hop.
    """
    if not 1 <= len(path) <= MAX_HOPS:
        raise DecodeError(f"a path has 1 to {MAX_HOPS} hops, not {len(path)}")
    if path[0].source != source or path[-1].target != target:
        raise DecodeError("the path does not lead from one edge of the loop to the other")
    for index in range(1, len(path)):
        if path[index].source != path[index - 1].target:
            raise DecodeError(f"hop {index} does not start where hop {index - 1} ends")
    passed = nodes(path)
    if len(set(passed)) != len(passed):
        raise DecodeError("the path passes a node twice")
