"""What an exit and its clients say at the start of a stream, and how datagrams go through one. Pure.

    client    length 2 ‖ {"do":"connect","host","port"}        and then the bytes of the connection
    exit      length 2 ‖ {"ok","error","code","host","port"}   and then the bytes of the connection

One stream carries one connection: a channel of a loop that carries many (mux), or a loop of its own, as clients did it
once. {"do":"udp"} opens an association in place of a connection; its datagrams go in both directions as

    length 2 ‖ kind 1 ‖ address 4 or 16, or length 1 ‖ name ‖ port 2 ‖ payload

kind 1 is IPv4, 3 a name, 4 IPv6, as in SOCKS5 (RFC 1928, section 7), whose datagrams these are without their first
three bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from skywire_common.errors import DecodeError
from skywire_common.keys import MAX_PORT, check_port

from skywire_apps.access import MAX_NAME, literal, plain_name

LENGTH_SIZE = 2
MAX_HEAD = 2_048
MAX_ERROR = 512
MAX_DATAGRAM = 0xFFFF


class Do(StrEnum):
    """What a stream is to become."""

    CONNECT = "connect"
    UDP = "udp"


_DO = frozenset(Do)


class Code(StrEnum):
    """Why an exit did not connect."""

    DENIED = "DENIED"
    LIMIT = "LIMIT"
    UNKNOWN_NAME = "UNKNOWN_NAME"
    NET_UNREACHABLE = "NET_UNREACHABLE"
    HOST_UNREACHABLE = "HOST_UNREACHABLE"
    REFUSED = "REFUSED"
    TIMEOUT = "TIMEOUT"
    UNSUPPORTED = "UNSUPPORTED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Request:
    """What a client asks for; without a host an exit takes the target of its own config."""

    do: Do
    host: str = ""
    port: int = 0


@dataclass(frozen=True)
class Answer:
    """What became of it; host and port are the exit's own end of the connection."""

    ok: bool
    error: str = ""
    code: str = ""
    host: str = ""
    port: int = 0


class Refused(Exception):
    """The exit does not connect, and says why."""

    def __init__(self, code: Code, error: str) -> None:
        super().__init__(error)
        self.code = code


def encode(message: Request | Answer) -> bytes:
    """Return length and JSON."""
    body = json.dumps(asdict(message)).encode()
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def head_size(prefix: bytes) -> int:
    """Read the length of what follows; raises DecodeError if it is over 2,048."""
    size = int.from_bytes(prefix, "big")
    if size > MAX_HEAD:
        raise DecodeError("the other end speaks another protocol")
    return size


def decode_request(body: bytes) -> Request:
    """Read a request; raises DecodeError."""
    fields = _fields(body)
    do, host, port = fields.get("do"), fields.get("host"), fields.get("port")
    if not isinstance(do, str) or do not in _DO or not isinstance(host, str) or type(port) is not int:
        raise DecodeError("a request says do, host and port")
    if not host and port == 0:
        return Request(Do(do))
    return Request(Do(do), check_host(host), check_port(port))


def decode_answer(body: bytes) -> Answer:
    """Read an answer; raises DecodeError."""
    fields = _fields(body)
    ok, error, code = fields.get("ok"), fields.get("error"), fields.get("code")
    host, port = fields.get("host"), fields.get("port")
    if not (isinstance(ok, bool) and isinstance(error, str) and isinstance(code, str) and isinstance(host, str)):
        raise DecodeError("an answer says ok, error, code and host")
    if type(port) is not int or not 0 <= port <= MAX_PORT:
        raise DecodeError("an answer says its port")
    return Answer(ok, error[:MAX_ERROR], code, host[:MAX_NAME], port)


def check_host(host: str) -> str:
    """Return an address or a name in its usual form; raises DecodeError."""
    address = literal(host)
    return plain_name(host) if address is None else str(address)


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise DecodeError("the other end speaks another protocol") from error
    if not isinstance(fields, dict):
        raise DecodeError("the other end speaks another protocol")
    return fields
