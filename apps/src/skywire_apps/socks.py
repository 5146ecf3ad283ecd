"""SOCKS5 as bytes, without I/O (RFC 1928; user and password: RFC 1929).

    greeting   05 ‖ count 1 ‖ methods            choice   05 ‖ method 1
    login      01 ‖ len 1 ‖ user ‖ len 1 ‖ pass  verdict  01 ‖ status 1
    request    05 ‖ command 1 ‖ 00 ‖ address     reply    05 ‖ status 1 ‖ 00 ‖ address
    datagram   00 00 ‖ fragment 1 ‖ address ‖ payload
    address    kind 1 (1: IPv4, 3: name, 4: IPv6) ‖ 4, 16, or length 1 and name ‖ port 2

Each parser takes what came so far and returns None if more is needed, else the value and how many bytes it had; it
raises DecodeError for what no SOCKS5 client says. Nothing is longer than MAX_MESSAGE.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from skywire_common.errors import DecodeError

from skywire_apps.access import literal, plain_name

VERSION = 5
MAX_MESSAGE = 513
MAX_NAME = 255


class Method(IntEnum):
    """How a client shows who it is."""

    NONE = 0x00
    PASSWORD = 0x02
    NO_ACCEPTABLE = 0xFF


class Command(IntEnum):
    """What a client asks for."""

    CONNECT = 1
    BIND = 2
    UDP_ASSOCIATE = 3


class Status(IntEnum):
    """How a request went."""

    OK = 0
    FAILED = 1
    DENIED = 2
    NET_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    TTL_EXPIRED = 6
    UNSUPPORTED_COMMAND = 7
    UNSUPPORTED_ADDRESS = 8


class Kind(IntEnum):
    """What an address is."""

    IPV4 = 1
    NAME = 3
    IPV6 = 4


class Target(NamedTuple):
    """An address or name, and a port."""

    host: str
    port: int


# What stands where there is no address.
NOWHERE = Target("0.0.0.0", 0)  # noqa: S104


class SocksRequest(NamedTuple):
    """A client's request; the command may be one that nobody knows."""

    command: int
    target: Target


class Login(NamedTuple):
    """A user and a password."""

    user: bytes
    password: bytes


def parse_greeting(data: bytes) -> tuple[frozenset[int], int] | None:
    """Read the methods that a client offers."""
    if data and data[0] != VERSION:
        raise DecodeError("this is a SOCKS5 proxy; the client speaks something else")
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    return frozenset(data[2 : 2 + data[1]]), 2 + data[1]


def parse_login(data: bytes) -> tuple[Login, int] | None:
    """Read user and password."""
    if data and data[0] != 1:
        raise DecodeError("a login starts with 01")
    if len(data) < 2 or len(data) < 3 + data[1]:
        return None
    middle = 2 + data[1]
    end = middle + 1 + data[middle]
    if len(data) < end:
        return None
    return Login(data[2:middle], data[middle + 1 : end]), end


def parse_request(data: bytes) -> tuple[SocksRequest, int] | None:
    """Read a request."""
    if data and data[0] != VERSION:
        raise DecodeError("a request starts with 05")
    if len(data) < 4:
        return None
    found = parse_target(data, 3)
    return None if found is None else (SocksRequest(data[1], found[0]), found[1])


def parse_target(data: bytes, start: int) -> tuple[Target, int] | None:
    """Read an address from `start` on; return it and where it ends."""
    if len(data) < start + 2:
        return None
    kind, begin = data[start], start + 1
    if kind == Kind.IPV4:
        size = 4
    elif kind == Kind.IPV6:
        size = 16
    elif kind == Kind.NAME:
        size, begin = data[begin], begin + 1
    else:
        raise DecodeError(f"{kind} is no kind of address")
    end = begin + size + 2
    if len(data) < end:
        return None
    raw, port = data[begin : begin + size], int.from_bytes(data[end - 2 : end], "big")
    if kind == Kind.IPV4:
        return Target(str(IPv4Address(raw)), port), end
    if kind == Kind.IPV6:
        return Target(str(IPv6Address(raw)), port), end
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise DecodeError("a host name is ASCII") from None
    # Some clients send addresses as names.
    address = literal(name)
    return Target(plain_name(name) if address is None else str(address), port), end


def parse_datagram(data: bytes) -> tuple[Target, bytes]:
    """Read a whole datagram; raises DecodeError for fragments as well, which nobody has to take."""
    if len(data) < 4 or data[:2] != b"\0\0":
        raise DecodeError("this is no SOCKS5 datagram")
    if data[2]:
        raise DecodeError("datagrams in fragments are not taken")
    return parse_packed(data[3:])


def parse_packed(data: bytes) -> tuple[Target, bytes]:
    """Read address and payload; raises DecodeError."""
    found = parse_target(data, 0)
    if found is None:
        raise DecodeError("the datagram's address is cut off")
    return found[0], data[found[1] :]


def encode_choice(method: Method) -> bytes:
    """Answer a greeting."""
    return bytes((VERSION, method))


def encode_verdict(ok: bool) -> bytes:
    """Answer a login."""
    return bytes((1, 0 if ok else 1))


def encode_reply(status: Status, target: Target | None = None) -> bytes:
    """Answer a request."""
    return bytes((VERSION, status, 0)) + encode_target(target or NOWHERE)


def encode_datagram(target: Target, payload: bytes) -> bytes:
    """Return a datagram for the client."""
    return b"\0\0\0" + pack(target, payload)


def pack(target: Target, payload: bytes) -> bytes:
    """Return address and payload."""
    return encode_target(target) + payload


def encode_target(target: Target) -> bytes:
    """Return an address; raises DecodeError if the name is too long."""
    address = literal(target.host)
    port = target.port.to_bytes(2, "big")
    if address is not None:
        return bytes((Kind.IPV4 if address.version == 4 else Kind.IPV6,)) + address.packed + port
    name = target.host.encode("ascii", "replace")
    if not 1 <= len(name) <= MAX_NAME:
        raise DecodeError("a host name has 1 to 255 bytes")
    return bytes((Kind.NAME, len(name))) + name + port
