"""Unix sockets that only their owner may use, and that no second process takes over."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skywire_common.errors import ErrorCode, Failure

# sun_path of Linux, without its final zero.
MAX_PATH = 107
_OWNER_ONLY = 0o177
_CONNECT_S = 1.0


@contextmanager
def private_socket(path: Path) -> Iterator[None]:
    """Within it, the socket at `path` may be bound and comes out with mode 0600.

    A stale socket (nobody listens) is removed before; raises Failure if somebody listens, or if the path is anything
    but a socket. Two processes that start at once take turns by a lock on the directory.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"a socket's path has at most {MAX_PATH} bytes: {path}")
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(ErrorCode.NOT_FOUND, f"{path.parent}: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _remove_stale(path)
        before = os.umask(_OWNER_ONLY)
        try:
            yield
        finally:
            os.umask(before)
    finally:
        os.close(directory)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Failure(ErrorCode.ALREADY_EXISTS, f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise Failure(ErrorCode.CONFLICT, f"{path}: {error}") from error
            path.unlink()
            return
    raise Failure(ErrorCode.DUPLICATE_IDENTITY, f"another process listens on {path}")
