"""The two descriptors between an app and its node."""

from __future__ import annotations

import os

from skywire_common.errors import ErrorCode, Failure, LocalError

FROM_NODE = 3
TO_NODE = 4
# "R,W": other descriptors, for tests and for nodes that start apps in another way.
VARIABLE = "SKYWIRE_APP_FDS"
# writev takes no more parts at once (IOV_MAX).
MAX_PARTS = 1_024


def descriptors() -> tuple[int, int]:
    """Return the descriptors to read and to write; raises LocalError if they are not open."""
    text = os.environ.get(VARIABLE, f"{FROM_NODE},{TO_NODE}")
    try:
        from_node, to_node = (int(part) for part in text.split(","))
    except ValueError as error:
        raise LocalError(f"{VARIABLE} is two numbers, R,W, not {text!r}") from error
    for fd in (from_node, to_node):
        try:
            os.fstat(fd)
        except OSError as error:
            raise LocalError(f"descriptor {fd} is not open: this app has to be started by a node") from error
        os.set_inheritable(fd, False)
    return from_node, to_node


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
