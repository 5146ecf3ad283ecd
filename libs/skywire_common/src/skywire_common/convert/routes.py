"""skywire.common.v1 Addr, Hop, Path and PathPair; `keys.Addr` and `routes`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from skywire.common.v1 import common_pb2

from skywire_common.convert import fields
from skywire_common.errors import DecodeError
from skywire_common.keys import MAX_PORT, Addr
from skywire_common.routes import MAX_HOPS, Hop, Path, PathPair, check_path

MAX_PAIRS = 64


def addr_to(addr: Addr) -> common_pb2.Addr:
    """Return the message of one end of a loop."""
    return common_pb2.Addr(public_key=addr.public_key, port=addr.port)


def addr_from(message: common_pb2.Addr, name: str = "addr") -> Addr:
    """Return one end of a loop: a key and a port, 1 to 65535; raises DecodeError."""
    key = fields.public_key(message.public_key, f"{name}.public_key")
    return Addr(key, fields.within(message.port, 1, MAX_PORT, f"{name}.port"))


def path_to(path: Path) -> common_pb2.Path:
    """Return the message of a path."""
    return common_pb2.Path(
        hops=[common_pb2.Hop(from_key=hop.source, to_key=hop.target, transport_id=hop.transport.bytes) for hop in path]
    )


def path_from(message: common_pb2.Path, name: str = "path") -> Path:
    """Return a path of 1 to MAX_HOPS hops without a gap or a repeated node; raises DecodeError."""
    if not 1 <= len(message.hops) <= MAX_HOPS:
        raise DecodeError(f"{name} has 1 to {MAX_HOPS} hops, not {len(message.hops)}")
    path = tuple(
        Hop(
            fields.public_key(hop.from_key, f"{name}.hops[{index}].from_key"),
            fields.public_key(hop.to_key, f"{name}.hops[{index}].to_key"),
            fields.transport_id(hop.transport_id, f"{name}.hops[{index}].transport_id"),
        )
        for index, hop in enumerate(message.hops)
    )
    try:
        check_path(path, path[0].source, path[-1].target)
    except DecodeError as error:
        raise DecodeError(f"{name}: {error}") from error
    return path


def path_pair_to(pair: PathPair) -> common_pb2.PathPair:
    """Return the message of a way there and the way back."""
    return common_pb2.PathPair(forward=path_to(pair.forward), reverse=path_to(pair.reverse))


def path_pair_from(message: common_pb2.PathPair, name: str = "routes") -> PathPair:
    """Return a way there and the way back between the same two nodes; raises DecodeError."""
    pair = PathPair(path_from(message.forward, f"{name}.forward"), path_from(message.reverse, f"{name}.reverse"))
    if pair.forward[0].source != pair.reverse[-1].target or pair.forward[-1].target != pair.reverse[0].source:
        raise DecodeError(f"{name}: the way back does not lead back")
    return pair


def path_pairs_to(pairs: Iterable[PathPair]) -> list[common_pb2.PathPair]:
    """Return the messages of several pairs."""
    return [path_pair_to(pair) for pair in pairs]


def path_pairs_from(messages: Collection[common_pb2.PathPair], name: str = "routes") -> list[PathPair]:
    """Return at most MAX_PAIRS pairs; raises DecodeError."""
    found = fields.at_most(messages, MAX_PAIRS, name)
    return [path_pair_from(message, f"{name}[{index}]") for index, message in enumerate(found)]
