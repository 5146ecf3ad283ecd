"""Messages of services as plain values: for `--json` as they are, for tables in fewer columns.

Keys and ids are lower-case hex, transport ids UUIDs; names are those of the protos.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from skywire_common import rules
from skywire_common.errors import DecodeError

from skywire_cli.output import route_id

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from skywire.common.v1 import common_pb2
    from skywire.node.v1 import node_admin_pb2 as pb

Row = dict[str, Any]
_UUID_SIZE = 16
# States of a loop that is no more; what it carried is not remembered.
OVER = frozenset({"CLOSED", "FAILED"})
_TRANSPORT_FIELDS = frozenset({"transport_id", "from_transport", "transport_in", "transport_out"})


def plain(message: Message) -> Row:
    """Return every field of a message by its name, defaults included."""
    return {field.name: _plain(field.name, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _plain(name: str, value: Any) -> object:
    if isinstance(value, bytes):
        return _octets(name, value)
    if hasattr(value, "DESCRIPTOR"):
        return plain(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str | int | float | bool):
        return value
    return [_plain(name, item) for item in value]


def _octets(name: str, value: bytes) -> str:
    if name in _TRANSPORT_FIELDS and len(value) == _UUID_SIZE:
        return str(UUID(bytes=value))
    return value.hex()


def rule(message: pb.Rule) -> Row:
    """Return a rule with its layout read; `next` says where its packets go."""
    row = plain(message)
    try:
        decoded = rules.decode(message.encoded)
    except DecodeError as error:
        return {**row, "next": f"unreadable: {error}"}
    if isinstance(decoded, rules.AppRule):
        row |= {
            "next": f"port {decoded.local_port}, of {decoded.remote}",
            "response_id": decoded.response_id,
            "remote": str(decoded.remote.public_key),
            "remote_port": decoded.remote.port,
            "local_port": decoded.local_port,
        }
    else:
        row |= {
            "next": f"{route_id(decoded.next_id)} over {decoded.next_transport}",
            "next_id": decoded.next_id,
            "next_transport": str(decoded.next_transport),
        }
    return row | {"expiry": decoded.expiry}


def path(message: common_pb2.Path) -> str:
    """Return a path as the first digits of its nodes' keys."""
    if not message.hops:
        return ""
    keys = [message.hops[0].from_key, *(hop.to_key for hop in message.hops)]
    return " → ".join(key.hex()[:8] for key in keys)
