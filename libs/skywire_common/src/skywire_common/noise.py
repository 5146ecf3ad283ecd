"""Noise handshakes KK and XK over secp256k1, and the ciphers that they leave behind.

DH is SHA-256 of the compressed shared point followed by one zero byte, DHLEN 33 (docs/wire-format.md, Noise). The
library does the handshake; sealing afterwards goes straight to ChaCha20-Poly1305 with the split keys, since loops
carry their counter on the wire and links count records themselves. The nonce is `00000000 ‖ counter 8, little-endian`
(Noise specification, section 12.3), the associated data empty.

Messages: KK 1 and 2 are 49 bytes and their payload, XK 1 is 49, 2 is 49, 3 is 65.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from noise.backends.default import DefaultNoiseBackend
from noise.connection import Keypair, NoiseConnection
from noise.exceptions import NoiseHandshakeError, NoiseInvalidMessage, NoiseValueError
from noise.functions.dh import DH
from noise.functions.hash import Hash
from noise.functions.keypair import KeyPair

from skywire_common.curve import DH_SIZE, SecretKey, check_point
from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import PublicKey

TAG_SIZE = 16
MAX_MESSAGE = 0xFFFF
MAX_PLAINTEXT = MAX_MESSAGE - TAG_SIZE

_nonce = struct.Struct("<4xQ").pack


class Pattern(StrEnum):
    """KK between the edges of a loop, who know each other; XK on links, where the acceptor learns the dialler."""

    KK = "KK"
    XK = "XK"


class _KeyPair(KeyPair):  # type: ignore[misc]
    """Keys as the library passes them round: `private` is a SecretKey, `public` the 33 bytes.

    Whether bytes are a point of the curve is found out by the DH with them, which every key that is read meets at once.
    """

    @classmethod
    def of(cls, secret: SecretKey) -> _KeyPair:
        public = bytes(secret.public)
        return cls(private=secret, public=public, public_bytes=public)

    @classmethod
    def from_private_bytes(cls, private_bytes: bytes) -> _KeyPair:
        return cls.of(SecretKey(private_bytes))

    @classmethod
    def from_public_bytes(cls, public_bytes: bytes) -> _KeyPair:
        if len(public_bytes) != DH_SIZE:
            raise NoiseValueError(f"a public key has {DH_SIZE} bytes")
        public = bytes(public_bytes)
        return cls(public=public, public_bytes=public)


class _Secp256k1(DH):  # type: ignore[misc]
    ephemeral: _KeyPair | None = None  # one object serves one handshake

    @property
    def klass(self) -> type[_KeyPair]:
        return _KeyPair

    @property
    def dhlen(self) -> int:
        return DH_SIZE

    def generate_keypair(self) -> _KeyPair:
        if self.ephemeral is None:
            raise LocalError("a handshake draws one ephemeral key, and it was taken")
        drawn, self.ephemeral = self.ephemeral, None
        return drawn

    def dh(self, private_key: SecretKey, public_key: bytes) -> bytes:
        return private_key.ecdh(public_key)


class _Sha256(Hash):  # type: ignore[misc]
    """The standard library's: a handshake hashes forty times, and objects made for each cost more than that."""

    hashlen, blocklen = 32, 64

    @property
    def fn(self) -> str:
        return "sha256"

    def hash(self, data: bytes) -> bytes:
        return hashlib.sha256(data).digest()


def _hmac(key: bytes, data: bytes, algorithm: str) -> bytes:
    return hmac.digest(key, data, algorithm)


class _Backend(DefaultNoiseBackend):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.hashes["SHA256"] = _Sha256
        self.hmac = _hmac
        self.diffie_hellmans["Secp256k1"] = _Secp256k1
        self.keypairs["Secp256k1"] = _KeyPair


_BACKEND = _Backend()


class Cipher:
    """One direction after a handshake: ChaCha20-Poly1305 under one key, the counter chosen by the caller.

    Who seals never uses a counter twice. Sealing makes 16 bytes more of the plaintext.
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)

    def seal(self, counter: int, plaintext: bytes | memoryview) -> bytes:
        """Return the ciphertext and its tag."""
        return self._aead.encrypt(_nonce(counter), plaintext, None)

    def seal_into(self, counter: int, plaintext: bytes | bytearray | memoryview, out: memoryview) -> None:
        """Write ciphertext and tag into `out`, which has exactly 16 bytes more than the plaintext."""
        self._aead.encrypt_into(_nonce(counter), plaintext, None, out)

    def open(self, counter: int, sealed: bytes | memoryview) -> bytes:
        """Return the plaintext; raises DecodeError if the tag does not verify."""
        try:
            return self._aead.decrypt(_nonce(counter), sealed, None)
        except InvalidTag as error:
            raise DecodeError("the tag does not verify") from error

    def open_into(self, counter: int, sealed: memoryview, out: memoryview) -> None:
        """Write the plaintext into `out`, 16 bytes shorter; raises DecodeError if the tag does not verify."""
        try:
            self._aead.decrypt_into(_nonce(counter), sealed, None, out)
        except InvalidTag as error:
            raise DecodeError("the tag does not verify") from error

    def __repr__(self) -> str:
        return "Cipher(…)"


class Handshake:
    """One side of a handshake. `write` and `read` alternate until `finished`; then `split` gives the ciphers.

    A failed `read` ends it for good: the state may have moved, so a handshake is never tried again.
    """

    def __init__(
        self,
        pattern: Pattern,
        *,
        initiator: bool,
        secret: SecretKey,
        remote: PublicKey | None,
        ephemeral: SecretKey,
        prologue: bytes = b"",
    ) -> None:
        """Begin; raises DecodeError if `remote` is no point of the curve.

        `remote` is needed but by the responder of XK, who learns it. `ephemeral` is drawn for this handshake alone.
        """
        name = f"Noise_{pattern.value}_Secp256k1_ChaChaPoly_SHA256".encode()
        self._noise: Any = NoiseConnection.from_name(name, backend=_BACKEND)
        self._initiator = initiator
        self._remote = remote
        if initiator:
            self._noise.set_as_initiator()
        else:
            self._noise.set_as_responder()
        self._noise.set_prologue(prologue)
        self._noise.noise_protocol.keypairs["s"] = _KeyPair.of(secret)
        self._noise.noise_protocol.dh_fn.ephemeral = _KeyPair.of(ephemeral)
        if remote is not None:
            self._noise.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, bytes(check_point(remote)))
        elif initiator or pattern is Pattern.KK:
            raise LocalError(f"this side of {pattern.value} must know the remote key")
        self._noise.start_handshake()

    def write(self, payload: bytes = b"") -> bytes:
        """Return this side's next message."""
        return bytes(self._noise.write_message(payload))

    def read(self, message: bytes) -> bytes:
        """Take the other side's next message and return its payload; raises DecodeError if it is not authentic."""
        # The library drops its state with the last message, which in XK is the one that reveals the dialler.
        state = self._noise.noise_protocol.handshake_state
        try:
            payload = bytes(self._noise.read_message(bytes(message)))
            if self._remote is None and isinstance(state.rs, _KeyPair):
                self._remote = PublicKey(state.rs.public_bytes)
        except (InvalidTag, NoiseValueError, NoiseInvalidMessage, NoiseHandshakeError, ValueError) as error:
            raise DecodeError("the handshake message is malformed or not authentic") from error
        return payload

    @property
    def finished(self) -> bool:
        """Whether both sides have all they need."""
        return bool(self._noise.handshake_finished)

    @property
    def hash(self) -> bytes:
        """The handshake hash, 32 bytes, the same on both sides and on no other handshake."""
        return bytes(self._noise.get_handshake_hash())

    @property
    def remote(self) -> PublicKey:
        """The other side's static key, authenticated once `finished`."""
        if self._remote is None:
            raise LocalError("the remote key is not known yet")
        return self._remote

    def split(self) -> tuple[Cipher, Cipher]:
        """Return the ciphers for sending and for receiving."""
        protocol = self._noise.noise_protocol
        return Cipher(protocol.cipher_state_encrypt.k), Cipher(protocol.cipher_state_decrypt.k)
