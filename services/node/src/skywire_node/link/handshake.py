"""The handshake of a link: Noise XK, messages behind a length of 2 bytes (docs/wire-format.md, Link, 1).

    dialler                    acceptor
       ── 49 ─────────────────────▶       knows the acceptor's key
       ◀───────────────────── 49 ──
       ── 65 ─────────────────────▶       reveals and proves the dialler's key

The prologue names the protocol and its version, so that a link of another kind fails here and says so.
"""

from __future__ import annotations

from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, LinkError
from skywire_common.keys import PublicKey
from skywire_common.noise import Cipher, Handshake, Pattern

HANDSHAKE_SECONDS = 5.0
MAX_MESSAGE = 128  # bytes; the longest message of the pattern has 65
_LENGTH_SIZE = 2
_PROLOGUE = b"skywire link 1"


class LinkHandshake:
    """One side. `begin` and `feed` return bytes to send; when `finished`, `split` gives ciphers and leftover bytes."""

    def __init__(self, secret: SecretKey, ephemeral: SecretKey, remote: PublicKey | None) -> None:
        """Dial `remote`, or accept whoever comes if it is None. Raises DecodeError if it is no point of the curve."""
        self._dials = remote is not None
        self._noise = Handshake(
            Pattern.XK,
            initiator=self._dials,
            secret=secret,
            remote=remote,
            ephemeral=ephemeral,
            prologue=_PROLOGUE,
        )
        self._received = bytearray()

    def begin(self) -> bytes:
        """Return what the dialler sends first; nothing for the acceptor."""
        return _prefixed(self._noise.write()) if self._dials else b""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take bytes; return what to send now. Raises LinkError if the other side is not who it must be."""
        self._received += data
        answer = b""
        while not self.finished:
            if len(self._received) < _LENGTH_SIZE:
                break
            size = int.from_bytes(self._received[:_LENGTH_SIZE], "big")
            if size > MAX_MESSAGE:
                raise LinkError(f"a handshake message has at most {MAX_MESSAGE} bytes, not {size}")
            end = _LENGTH_SIZE + size
            if len(self._received) < end:
                break
            try:
                self._noise.read(bytes(self._received[_LENGTH_SIZE:end]))
            except DecodeError as error:
                raise LinkError(f"the handshake failed: {error}") from error
            del self._received[:end]
            if not self.finished:
                answer += _prefixed(self._noise.write())
        return answer

    @property
    def finished(self) -> bool:
        """Whether both sides have proved their keys."""
        return self._noise.finished

    @property
    def remote(self) -> PublicKey:
        """The other node's key."""
        return self._noise.remote

    def split(self) -> tuple[Cipher, Cipher, bytes]:
        """Return the ciphers for sending and receiving, and what came behind the handshake."""
        return (*self._noise.split(), bytes(self._received))


def _prefixed(message: bytes) -> bytes:
    return len(message).to_bytes(_LENGTH_SIZE, "big") + message
