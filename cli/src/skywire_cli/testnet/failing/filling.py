"""Make a disk full: a file system of its own by a file that takes all of it, any other one by a limit on processes.

A file system that holds more than a testnet is not filled: others work on it. There each process gets RLIMIT_FSIZE,
which needs no root and is taken back at any time; a write fails of EFBIG where on a full disk it fails of ENOSPC.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"
# A file system that is smaller is taken for one of the testnet's own.
OWN_BELOW = 1 << 30
_PIECE = 1 << 20


def own(directory: Path) -> bool:
    """Say whether a directory lies on a small file system of its own."""
    return shutil.disk_usage(directory).total < OWN_BELOW


@contextmanager
def filled(directory: Path) -> Iterator[int]:
    """Fill a file system to the last byte, and free it again; yields how many bytes that took."""
    path = directory / FILLER
    try:
        yield _fill(path)
    finally:
        path.unlink(missing_ok=True)


def _fill(path: Path) -> int:
    size, piece = 0, _PIECE
    with path.open("wb", buffering=0) as file:
        while piece:
            try:
                size += file.write(bytes(piece))
                os.fsync(file.fileno())
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                piece //= 2
    return size


@contextmanager
def limited(pids: Iterable[int], size: int) -> Iterator[None]:
    """Have processes write no file beyond `size` bytes; those that are gone meanwhile need nothing back."""
    before = {}
    for pid in pids:
        before[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            try:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
            except ProcessLookupError:
                continue
