"""The fields of one vector, read strictly, and what differs.

A section's check reads fields with the typed methods and compares with `expect`. A field that nobody read is a
difference too: a check that ignores part of a vector would say yes to anything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError
from skywire_common.keys import PublicKey

_HEX = frozenset("0123456789abcdef")
_SHOWN = 96


class Difference(NamedTuple):
    """A field whose value is not what this code makes of the others; values as text, long ones cut."""

    field: str
    wanted: str
    got: str


class Fields:
    """One object of a vectors file; every reader raises DecodeError that names the field."""

    def __init__(self, document: object, name: str = "") -> None:
        if not isinstance(document, dict):
            raise DecodeError(f"{name or 'a vector'} is a JSON object")
        self._name = name
        self._values: Mapping[str, object] = document
        self._read: set[str] = set()
        self._within: list[Fields] = []
        self._differences: list[Difference] = []

    def value(self, field: str) -> object:
        """Return any JSON value."""
        if field not in self._values:
            raise DecodeError(f"{self._path(field)} is missing")
        self._read.add(field)
        return self._values[field]

    def text(self, field: str) -> str:
        """Return a string that UTF-8 can hold."""
        value = self.value(field)
        if not isinstance(value, str) or any("\ud800" <= char <= "\udfff" for char in value):
            raise DecodeError(f"{self._path(field)} is a string")
        return value

    def number(self, field: str, size: int = 8) -> int:
        """Return a whole number from 0 up that fits `size` bytes."""
        value = self.value(field)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 8 * size:
            raise DecodeError(f"{self._path(field)} is a whole number of at most {size} bytes")
        return value

    def boolean(self, field: str) -> bool:
        """Return true or false."""
        value = self.value(field)
        if not isinstance(value, bool):
            raise DecodeError(f"{self._path(field)} is true or false")
        return value

    def octets(self, field: str) -> bytes:
        """Return bytes, written as lower-case hex."""
        text = self.text(field)
        if len(text) % 2 or not set(text) <= _HEX:
            raise DecodeError(f"{self._path(field)} is lower-case hex")
        return bytes.fromhex(text)

    def public_key(self, field: str) -> PublicKey:
        """Return a public key, 33 bytes of lower-case hex."""
        return PublicKey(self.octets(field))

    def secret_key(self, field: str) -> SecretKey:
        """Return a secret key, 32 bytes of lower-case hex."""
        return SecretKey(self.octets(field))

    def children(self, field: str) -> list[Fields]:
        """Return a list of objects; their differences become this vector's."""
        value = self.value(field)
        if not isinstance(value, list):
            raise DecodeError(f"{self._path(field)} is a list of objects")
        children = [Fields(item, f"{self._path(field)}[{index}]") for index, item in enumerate(value)]
        self._within += children
        return children

    def expect(self, field: str, wanted: object, got: object) -> None:
        """Record a difference unless both are the same; `wanted` is the file's value."""
        if type(wanted) is not type(got) or wanted != got:
            self._differences.append(Difference(self._path(field), _show(wanted), _show(got)))

    def expect_octets(self, field: str, got: bytes) -> None:
        """Compare a hex field with bytes."""
        self.expect(field, self.octets(field), bytes(got))

    def differences(self) -> list[Difference]:
        """Return what differs, here and in the children, unread fields included."""
        unread = [
            Difference(self._path(field), _show(value), "no such field in the format")
            for field, value in self._values.items()
            if field not in self._read
        ]
        return self._differences + unread + [found for child in self._within for found in child.differences()]

    def refused(self) -> list[Difference]:
        """Return the differences found before this code refused the vector."""
        return self._differences + [found for child in self._within for found in child.refused()]

    def _path(self, field: str) -> str:
        return f"{self._name}.{field}" if self._name else field


def _show(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
