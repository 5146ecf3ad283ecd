"""Public keys as values (docs/wire-format.md, Keys and signatures), the addresses made of them, and ports.

The curve itself is in `curve`: so an app's SDK does not load the curve's library.
"""

from __future__ import annotations

from typing import NamedTuple

from skywire_common.errors import DecodeError

PUBLIC_KEY_SIZE = 33
MAX_PORT = 0xFFFF
MAX_PORT_DIGITS = 20
# Of a file with a key in hex, blanks and a line's end included; what is longer holds none.
MAX_KEY_FILE = 128


class PublicKey(bytes):
    """A compressed secp256k1 point, 33 bytes; shown as 66 lower-case hex digits.

    Construction checks length and prefix; that the point lies on the curve is checked where it is used.
    Raises DecodeError.
    """

    __slots__ = ()

    def __new__(cls, raw: bytes | bytearray | memoryview) -> PublicKey:
        if len(raw) != PUBLIC_KEY_SIZE:
            raise DecodeError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(raw)}")
        if raw[0] not in (2, 3):
            raise DecodeError("a compressed public key starts with 02 or 03")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read 66 lower-case hex digits."""
        if len(text) != 2 * PUBLIC_KEY_SIZE or not set(text) <= set("0123456789abcdef"):
            raise DecodeError(f"a public key is {2 * PUBLIC_KEY_SIZE} lower-case hex digits, not {text[:80]!r}")
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.hex()

    def __repr__(self) -> str:
        return f"PublicKey({self.hex()})"

    @property
    def short(self) -> str:
        """The first 8 digits, for tables."""
        return self.hex()[:8]


class Addr(NamedTuple):
    """One end of a loop: a node's key and a port, 1 to 65535."""

    public_key: PublicKey
    port: int

    def __str__(self) -> str:
        return f"{self.public_key}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Addr:
        """Read `<66 hex digits>:<port>`; raises DecodeError."""
        key, _, port = text.rpartition(":")
        if not key:
            raise DecodeError(f"an address is KEY:PORT, not {text[:80]!r}")
        return cls(PublicKey.parse(key), parse_port(port))


def parse_port(text: str) -> int:
    """Read a port, 1 to 65535, in decimal; raises DecodeError."""
    # More digits are none whatever they are, and int() raises an error of its own for thousands of them.
    if not text.isascii() or not text.isdigit() or len(text) > MAX_PORT_DIGITS:
        raise DecodeError(f"a port is a number from 1 to {MAX_PORT}, not {text[:80]!r}")
    return check_port(int(text))


def parse_host_port(text: str) -> tuple[str, int]:
    """Read HOST:PORT of the network, the host as it is written and not empty; raises DecodeError."""
    host, _, port = text.rpartition(":")
    if not host:
        raise DecodeError(f"an address is HOST:PORT, not {text[:80]!r}")
    return host, parse_port(port)


def check_port(port: int) -> int:
    """Return the port if it is one, 1 to 65535; raises DecodeError."""
    if not 1 <= port <= MAX_PORT:
        raise DecodeError(f"a port is a number from 1 to {MAX_PORT}, not {port}")
    return port
