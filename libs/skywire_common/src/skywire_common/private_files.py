"""Files with a secret: how they are made, and which are kept well enough to be read.

mode 0600 or 0400   anybody's file
mode 0640 or 0440   root's file, read by another user as a member of its group: how Kubernetes hands a Secret to a
                    process that is not root (fsGroup), and how PostgreSQL takes its certificate's key
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from skywire_common.errors import LocalError

PRIVATE_MODE = 0o600
_OTHERS_MAY = 0o077
_GROUP_READS = 0o040


def check_private(path: Path, what: str = "file") -> None:
    """Raise LocalError if it is a directory or others than this process's user may use it, OSError if it is missing."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        # Its mode is another matter: chmod 600 would lock it.
        raise LocalError(f"{path} is a directory, not a {what}")
    if not is_private(found, os.geteuid(), {os.getegid(), *os.getgroups()}):
        mode = found.st_mode & 0o777
        raise LocalError(f"{path} may be read by others (mode {mode:04o}): run chmod 600 {path}")


def write_private(path: Path, text: str) -> None:
    """Write a new file for this process's user alone, whole or not at all; raises OSError, FileExistsError too."""
    # Created with its mode: there is no moment at which others may open it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
    except OSError as error:
        path.unlink()  # the disk is full: half a key is nobody's
        error.filename = error.filename or str(path)
        raise


def mark_of(path: Path) -> tuple[int, int, int, int] | None:
    """Return what tells a file from the one that was there before, its mode included; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def is_private(found: os.stat_result, user: int, groups: Collection[int]) -> bool:
    """Say whether a file with this status is for this user's eyes only."""
    others = found.st_mode & _OTHERS_MAY
    if not others:
        return True
    lent_by_root = found.st_uid == 0 and user != 0
    return lent_by_root and others == _GROUP_READS and found.st_gid in groups
