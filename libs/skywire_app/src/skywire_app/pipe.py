"""The two descriptors between an app and its node."""

from __future__ import annotations

import fcntl
import os
import stat

from skywire_common.errors import ErrorCode, Failure, LocalError

FROM_NODE = 3
TO_NODE = 4
# "R,W": other descriptors, for tests and for nodes that start apps in another way.
VARIABLE = "SKYWIRE_APP_FDS"
# writev takes no more parts at once (IOV_MAX).
MAX_PARTS = 1_024

_BY_A_NODE = "this app has to be started by a node"


class NoNode(LocalError):
    """No node has started this process: there is no pipe to one."""


def descriptors() -> tuple[int, int]:
    """Return the descriptors to read and to write; raises NoNode if they are no pipe's or socket's ends for that.

    What is open is not enough: in a process that was started by hand an event loop has its own things there.
    """
    text = os.environ.get(VARIABLE, f"{FROM_NODE},{TO_NODE}")
    try:
        from_node, to_node = (int(part) for part in text.split(","))
    except ValueError as error:
        raise LocalError(f"{VARIABLE} is two numbers, R,W, not {text!r}") from error
    ends = (_end(from_node, os.O_RDONLY), _end(to_node, os.O_WRONLY))
    if stat.S_ISFIFO(ends[0].st_mode) and os.path.samestat(*ends):
        raise NoNode(f"descriptors {from_node} and {to_node} are one pipe's ends: {_BY_A_NODE}")
    for fd in (from_node, to_node):
        os.set_inheritable(fd, False)
    return from_node, to_node


def _end(fd: int, mode: int) -> os.stat_result:
    """Return the status of a pipe's or socket's end that may be used in this way; raises NoNode if it is none."""
    try:
        found = os.fstat(fd)
        may = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        raise NoNode(f"descriptor {fd} is not open: {_BY_A_NODE}") from None
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)) or may not in (mode, os.O_RDWR):
        what = "read" if mode == os.O_RDONLY else "write"
        raise NoNode(f"descriptor {fd} is no pipe to {what}: {_BY_A_NODE}")
    return found


def write_some(fd: int, parts: list[bytes]) -> bool:
    """Write from the front of `parts` and remove what was written; False if the pipe took less than offered."""
    size = os.writev(fd, parts[:MAX_PARTS])
    done = 0
    while done < len(parts) and size >= len(parts[done]):
        size -= len(parts[done])
        done += 1
    del parts[:done]
    if size:
        parts[0] = parts[0][size:]
    return not size


def closed() -> Failure:
    """Say that the node is gone."""
    return Failure(ErrorCode.CLOSED, "the node has closed the pipe")
