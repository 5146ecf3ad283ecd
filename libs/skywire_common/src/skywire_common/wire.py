"""A checked cursor over bytes, big-endian. Every codec of fixed layouts reads and writes through it."""

from __future__ import annotations

from skywire_common.errors import DecodeError


class Reader:
    """Read fields one after the other; a field that is not all there raises DecodeError."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise DecodeError(f"{size} bytes wanted at offset {self._at}, {len(self._data) - self._at} left")
        field = bytes(self._data[self._at : end])
        self._at = end
        return field

    def uint(self, size: int) -> int:
        """Return an unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise DecodeError(f"{len(self._data) - self._at} bytes too many")
