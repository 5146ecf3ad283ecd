"""Many small frames in one write to the node."""

from __future__ import annotations

import os

from skywire_app.pipe import MAX_PARTS, write_some


def test_parts_of_one_write_are_bounded() -> None:
    read, write = os.pipe()
    try:
        parts = [b"%05d" % number for number in range(2 * MAX_PARTS + 9)]
        whole = b"".join(parts)
        for left in (MAX_PARTS + 9, 9, 0):
            assert write_some(write, parts)
            assert len(parts) == left
        assert os.read(read, 1 << 16) == whole
    finally:
        os.close(read)
        os.close(write)
