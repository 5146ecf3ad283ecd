"""secp256k1: secret keys, signatures and ECDH. The only module that knows the curve's library.

A signature is 65 bytes, `r 32 ‖ s 32 ‖ recovery id 1`, over SHA-256(payload). Verification recovers the key and
compares it with the claimed one. High `s` is refused: such a signature has a twin with the same meaning, so
signature bytes are never an identifier either (docs/wire-format.md, Keys and signatures).
"""

from __future__ import annotations

import secrets
from functools import cached_property
from pathlib import Path

import coincurve

from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import MAX_KEY_FILE, PublicKey
from skywire_common.private_files import check_private
from skywire_common.short_files import read_short

SECRET_KEY_SIZE = 32
SIGNATURE_SIZE = 65
DH_SIZE = 33
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_MAX_RECOVERY_ID = 3


class SecretKey:
    """A secp256k1 secret key, 32 bytes, that never shows itself: repr, str and pickling give nothing away."""

    __slots__ = ("__dict__", "_key")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != SECRET_KEY_SIZE:
            raise DecodeError(f"a secret key has {SECRET_KEY_SIZE} bytes, not {len(raw)}")
        try:
            self._key = coincurve.PrivateKey(raw)
        except ValueError as error:
            raise DecodeError("the secret key is zero or not below the curve's order") from error

    @classmethod
    def generate(cls) -> SecretKey:
        """Draw a new key from the system's randomness."""
        while True:
            try:
                return cls(secrets.token_bytes(SECRET_KEY_SIZE))
            except DecodeError:  # one draw in 2^128
                continue

    @classmethod
    def parse(cls, text: str) -> SecretKey:
        """Read 64 hex digits; the error never repeats them."""
        try:
            raw = bytes.fromhex(text.strip())
        except ValueError as error:
            raise DecodeError(f"a secret key is {2 * SECRET_KEY_SIZE} hex digits") from error
        return cls(raw)

    @classmethod
    def load(cls, path: Path) -> SecretKey:
        """Read a key file; raises LocalError if others may read it (mode 0600; see private_files), DecodeError."""
        try:
            check_private(path, "key file")
        except LocalError as error:
            if path.is_file() and not cls.is_in(path):
                # A wrong path rather than a wrong mode: nobody's page or log wants a chmod.
                mode = path.stat().st_mode & 0o777
                text = f"{path} holds no secret key of {2 * SECRET_KEY_SIZE} hex digits"
                raise LocalError(f"{text}, and may be read by others (mode {mode:04o})") from error
            raise
        return cls._read(path)

    @classmethod
    def _read(cls, path: Path) -> SecretKey:
        text = read_short(path, MAX_KEY_FILE)
        if len(text) > MAX_KEY_FILE:
            raise DecodeError(
                f"a secret key is {2 * SECRET_KEY_SIZE} hex digits, and a file with one has no more lines"
            )
        return cls.parse(text)

    @classmethod
    def is_in(cls, path: Path) -> bool:
        """Say whether a file holds a key, whoever may read it; True too if this process may not."""
        try:
            cls._read(path)
        except DecodeError:
            return False
        except OSError:
            return True
        return True

    @cached_property
    def public(self) -> PublicKey:
        """The public key, 33 bytes."""
        return PublicKey(self._key.public_key.format())

    def sign(self, payload: bytes) -> bytes:
        """Sign SHA-256(payload); 65 bytes, low `s`."""
        return self._key.sign_recoverable(payload)

    def ecdh(self, public: PublicKey | bytes) -> bytes:
        """Return the shared secret for Noise, 33 bytes: SHA-256(compressed shared point) ‖ 00.

        Raises ValueError if `public` is no point of the curve.
        """
        return self._key.ecdh(bytes(public)) + b"\x00"

    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes, for a key file or a handshake and nothing else."""
        return self._key.secret

    def __repr__(self) -> str:
        return "SecretKey(…)"

    def __reduce__(self) -> str:
        raise LocalError("a secret key is not pickled")


def verify(public: PublicKey, payload: bytes, signature: bytes) -> bool:
    """Say whether `public` signed SHA-256(payload); False for any malformed or high-`s` signature."""
    if len(signature) != SIGNATURE_SIZE or signature[64] > _MAX_RECOVERY_ID:
        return False
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return False
    try:
        recovered = coincurve.PublicKey.from_signature_and_message(signature, payload)
    except Exception as error:
        # The library raises plain Exception, and ValueError, for signatures that belong to no key.
        if type(error) not in (Exception, ValueError):
            raise
        return False
    return recovered.format() == bytes(public)


def check_point(public: PublicKey) -> PublicKey:
    """Return the key if its point lies on the curve; raises DecodeError."""
    try:
        coincurve.PublicKey(bytes(public))
    except ValueError as error:
        raise DecodeError(f"{public} is not a point of the curve") from error
    return public
