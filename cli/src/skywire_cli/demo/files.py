"""The demo's directory and files. All of it blocks.

A temporary directory is locked (flock) by the demo that made it. One that nobody holds was left by a demo that was
killed, and the next demo removes it, unless it was to be kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skywire_cli.failures import CliError
from skywire_cli.testnet.cleaning import clean
from skywire_cli.testnet.state import load

PREFIX = "skywire-demo-"
NET = "net"
# Stands in a directory that its owner wants to look at afterwards.
KEPT = ".kept"
_CHUNK = 1 << 20


@contextmanager
def workplace(directory: Path | None, keep: bool) -> Iterator[Path]:
    """Give an empty directory for everything, and remove it afterwards with all that is in it unless `keep`."""
    lock: int | None = None
    if directory is None:
        remove_abandoned(Path(tempfile.gettempdir()))
        place, lock = _temporary(keep)
    else:
        place = directory.absolute()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise CliError("NOT_EMPTY", f"{place} is not empty", "name another one by --dir")
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place)
        if lock is not None:
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove what demos of this user left that were killed; a directory that is held, kept or strange stays."""
    for place in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another demo may be at it as well
            if place.is_symlink() or place.stat().st_uid != os.geteuid() or (place / KEPT).exists():
                continue
            lock = _lock(place)
            if lock is None:
                continue
            try:
                _remove(place)
            finally:
                os.close(lock)


def _remove(place: Path) -> None:
    net = place / NET
    if net.is_dir():
        running = _lock(net)
        if running is None:
            return
        os.close(running)
        state = load(net)
        if state is not None:
            clean(net, state, everything=True)  # its sockets may lie elsewhere
    shutil.rmtree(place)


def _temporary(keep: bool) -> tuple[Path, int]:
    """Make a directory and lock it; return both."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = _lock(place)
        if lock is None:
            continue  # another demo is about to remove what it takes for abandoned
        if place.exists():
            if keep:
                (place / KEPT).touch()
            return place, lock
        os.close(lock)


def _lock(directory: Path) -> int | None:
    """Lock a directory and return what holds the lock; None if somebody has it, or there is none."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def check_room(place: Path, needed: int) -> None:
    """Raise CliError unless so many bytes are free."""
    free = shutil.disk_usage(place).free
    if free < needed:
        message = f"{place} has {free >> 20} MiB free, the demo needs {needed >> 20} MiB there (ENOSPC)"
        raise CliError("NO_SPACE", message, "a smaller --size, or another place by --dir or TMPDIR")


def make_file(path: Path, size: int) -> str:
    """Write `size` random bytes and return their SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size:
            chunk = secrets.token_bytes(min(size, _CHUNK))
            file.write(chunk)
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def look_at(path: Path) -> tuple[int | None, str]:
    """Return a file's size and its SHA-256 in hex; None and nothing if it is not there."""
    if not path.exists():
        return None, ""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
