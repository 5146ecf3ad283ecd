"""Who may send next: the node's own loops in turn, then every link and pipe that holds something is written.

Reading from one socket or pipe may touch many loops, links and apps. Each is noted here once and served once the
reading is done, so that many small packets leave in one record and no loop can keep the others waiting: a turn is TURN
packets. Links come before pipes: what goes on to another node is not kept waiting by an answer to an app.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

TURN = 2  # packets of one loop before the next loop has its turn


class Sender(Protocol):
    """A loop as the flow sees it."""

    def send(self, most: int) -> bool:
        """Put up to `most` packets into the link; True if there is more and the link has room."""


class Flushable(Protocol):
    """A link or an app's pipe as the flow sees it."""

    def flush(self) -> None:
        """Write what was collected."""


class Flow:
    """Loops that have something to send, links and pipes that have something to write."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._loops: dict[Sender, None] = {}  # in order of their turns
        self._links: dict[Flushable, None] = {}
        self._pipes: dict[Flushable, None] = {}
        self._scheduled = False

    def wake(self, loop: Sender) -> None:
        """Give the loop a turn as soon as the present reading is done."""
        self._loops[loop] = None
        self._schedule()

    def forget(self, loop: Sender) -> None:
        """Take a loop out that is over."""
        self._loops.pop(loop, None)

    def dirty(self, link: Flushable) -> None:
        """Note that the link holds packets."""
        self._links[link] = None
        self._schedule()

    def answer(self, pipe: Flushable) -> None:
        """Note that there is something for the app at the other end of the pipe."""
        self._pipes[pipe] = None
        self._schedule()

    def begin(self) -> None:
        """A link or a pipe hands over what it read: serve nobody before `end`."""
        self._scheduled = True

    def end(self) -> None:
        """All of it was handed over: serve everyone now."""
        self._run()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = True
        try:
            loops, self._loops = self._loops, {}
            while loops:
                loops = {loop: None for loop in loops if loop.send(TURN)}
            links, self._links = self._links, {}
            for link in links:
                link.flush()
            pipes, self._pipes = self._pipes, {}
            for pipe in pipes:
                pipe.flush()
        finally:
            self._scheduled = False
        if self._loops or self._links or self._pipes:  # what serving them has caused
            self._schedule()
