"""The node's ends of an app's pipe, and the session between them.

Reads go straight into the session's buffer; what they cause is served in one go when the read is done, links first,
and answers to many frames leave in one write. The pipe to the app is written as far as it takes, the rest when it can:
until then no more frames are made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from skywire_common.appframes import FrameBuffer

from skywire_node.apps.limits import MAX_FRAMES_PER_S
from skywire_node.apps.pace import Pace
from skywire_node.apps.session import AppSession, State

# writev takes no more parts at once (IOV_MAX).
MAX_PARTS = 1_024
# How long the answer to a Send may wait for something else that goes to the app.
LATE_ANSWER_S = 0.005


_CLOSED = State.CLOSED  # looking a member up in its enum is slow (Python 3.11)


class Turns(Protocol):
    """Who serves loops, links and pipes after a read (`routing.flow.Flow`)."""

    def begin(self) -> None:
        """A pipe hands over what it read."""

    def end(self) -> None:
        """All of it was handed over."""

    def answer(self, pipe: AppPipe) -> None:
        """Have the pipe flushed after the present reading."""


class AppPipe:
    """Run a session over two non-blocking descriptors; owns them. `ended` is called once, when no more will come."""

    def __init__(
        self, from_app: int, to_app: int, turns: Turns, ended: Callable[[], None], frames_per_s: int = MAX_FRAMES_PER_S
    ) -> None:
        self._from_app = from_app
        self._to_app = to_app
        self._turns = turns
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._buffer = FrameBuffer()
        self._session: AppSession | None = None
        self._parts: list[bytes] = []
        self._reading = False
        self.blocked_since: float | None = None
        self.last_read = self._loop.time()
        self._pace = Pace(frames_per_s, self.last_read)
        self._resting: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self.held_back_at: float | None = None

    def run(self, session: AppSession) -> None:
        """Start."""
        self._session = session
        self._reading = True
        self._loop.add_reader(self._from_app, self._readable)

    def wake(self) -> None:
        """Ask the session for frames soon."""
        if self._to_app >= 0 and self.blocked_since is None:
            self._turns.answer(self)

    def wake_later(self) -> None:
        """Ask the session for frames within LATE_ANSWER_S; what it has for the app before that takes them along."""
        if self._late is None and self._to_app >= 0:
            self._late = self._loop.call_later(LATE_ANSWER_S, self._no_longer)

    @property
    def unfinished(self) -> str:
        """Say what the app has begun to write, if it is not a whole frame; empty if there is nothing."""
        begun, have = self._buffer.begun, self._buffer.pending
        if not have:
            return ""
        return f"it has begun a frame and written {have} bytes of {begun[1] if begun is not None else 'it'}"

    def drain(self) -> None:
        """Read what an ended app has left in the pipe."""
        while self._reading and self._read():
            pass

    def close(self) -> None:
        """Close both ends."""
        self._close_reading()
        self._close_writing()

    def _readable(self) -> None:
        self._turns.begin()
        try:
            self._read()
        finally:
            self._turns.end()
        rest = self._spend()
        if rest:
            # What the app writes meanwhile waits in the pipe, then the app in its write.
            self._loop.remove_reader(self._from_app)
            self.held_back_at = self._loop.time()
            self._resting = self._loop.call_later(rest, self._rested)

    def _spend(self) -> float:
        """Return for how long nothing may be read, after what was read last."""
        session = self._session
        if session is None or not self._reading:
            return 0.0
        frames, session.frames = session.frames, 0
        return self._pace.spend(frames, self.last_read)

    def _rested(self) -> None:
        self._resting = None
        if self._reading:
            self._loop.add_reader(self._from_app, self._readable)

    def _read(self) -> bool:
        """Handle what one read gives; False if there is nothing now, or nothing any more."""
        session = self._session
        if session is None or not self._reading:
            return False
        try:
            size = os.readv(self._from_app, [self._buffer.space()])
        except BlockingIOError:
            return False
        if size == 0:
            self._end()
            return False
        self.last_read = self._loop.time()
        self._buffer.filled(size)
        session.feed(self._buffer)
        if session.state is _CLOSED:
            self._end()
        return True

    def flush(self) -> None:
        """Write what the session has for the app, as far as the pipe takes it; the rest follows by itself."""
        session = self._session
        if session is None or self._to_app < 0 or self.blocked_since is not None:
            return
        while self._parts or (session.waiting and (parts := session.take(now=self._loop.time()))):
            if not self._parts:
                self._parts = parts
            if not self._write():
                return
        if session.state is _CLOSED:
            # The app has been told why; it sees the end now.
            self._close_writing()

    def _no_longer(self) -> None:
        self._late = None
        self.flush()

    def _write(self) -> bool:
        """Write what waits; False if the pipe is full or gone."""
        parts = self._parts
        try:
            size = os.writev(self._to_app, parts[:MAX_PARTS])
        except BlockingIOError:
            size = 0
        except BrokenPipeError:
            # What the app wrote before it closed its end is still to be read.
            self._close_writing()
            return False
        done = 0
        while done < len(parts) and size >= len(parts[done]):
            size -= len(parts[done])
            done += 1
        del parts[:done]
        if size:
            parts[0] = parts[0][size:]
        if done and not size:
            return True
        self.blocked_since = self._loop.time()
        self._loop.add_writer(self._to_app, self._writable)
        return False

    def _writable(self) -> None:
        self._loop.remove_writer(self._to_app)
        self.blocked_since = None
        self.flush()

    def _end(self) -> None:
        if self._reading:
            self._close_reading()
            self._ended()

    def _close_reading(self) -> None:
        self._reading = False
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._from_app >= 0:
            self._loop.remove_reader(self._from_app)
            os.close(self._from_app)
            self._from_app = -1

    def _close_writing(self) -> None:
        self._parts = []
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self.blocked_since = None
        if self._to_app >= 0:
            self._loop.remove_writer(self._to_app)
            os.close(self._to_app)
            self._to_app = -1
