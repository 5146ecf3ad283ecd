"""The SDK for plain blocking code and threads: the names of `skywire_app`, without await.

No thread of its own: whoever waits reads the pipe for all, the others wait for what it brings. A program of one thread
thus costs one read per wake-up. Every method may be called from any thread, `App.stop` from a signal handler too; a
`timeout` is in seconds and raises TimeoutError.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType

from skywire_common.appframes import MAX_LENGTH, FrameBuffer, LoopAddr
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey

from skywire_app import pipe
from skywire_app.session import STOP_GRACE_S, IncompleteRead, Packet, Session, State, why_ended
from skywire_app.stream import HIGH_WATER, StreamState

__all__ = ["Addr", "App", "ErrorCode", "Failure", "IncompleteRead", "LoopAddr", "Packet", "PublicKey", "Stream"]

# Answers leave with the app's next write or wait, or after so long: for all that its node knows, an app that leaves
# frames unanswered for seconds is frozen, and one that computes is not.
ANSWER_WITHIN_S = 1.0
_BOTH = select.POLLIN | select.POLLOUT  # for a socket that is both ends


class _Pipe:
    """A session over two descriptors, shared by threads."""

    def __init__(self, from_node: int, to_node: int) -> None:
        self.session = Session()
        self.lock = threading.Lock()
        self._from_node = from_node
        self._to_node = to_node
        self._buffer = FrameBuffer()
        self._brought = threading.Condition(self.lock)
        self._reading = False
        self._late: threading.Timer | None = None
        self._clogged = False
        self._for_room = False  # whoever reads looks out for room to write as well
        self.stop_asked = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll, self._poll_room = select.poll(), select.poll()
        self._poll_room.register(to_node, select.POLLOUT)
        for poll in (self._poll, self._poll_room):
            poll.register(from_node, select.POLLIN if poll is self._poll or from_node != to_node else _BOTH)
            poll.register(self._wake, select.POLLIN)
        os.set_blocking(from_node, True)
        os.set_blocking(to_node, False)

    def flush(self) -> None:
        """Write what the session has said, as far as the pipe takes it; the lock is held. Who waits writes the rest."""
        out = self.session.out
        if not out:
            return
        try:
            while out:
                pipe.write_some(self._to_node, out)
        except BlockingIOError:
            self._clogged = True
            if self._reading and not self._for_room:
                os.eventfd_write(self._wake, 1)
            return
        except BrokenPipeError:
            # The reason, if the node gave one, is still to be read.
            out.clear()
        if self._clogged:
            self._clogged = False
            self._brought.notify_all()

    def write_out(self, timeout: float | None = None, is_so: Callable[[], bool] = lambda: True) -> None:
        """Write all that the session has said, and wait until `is_so()` too; the lock is held."""

        def written() -> bool:
            self.flush()  # what came while it waited has answers too
            return not self.session.out and is_so()

        if not written():
            self.wait(written, timeout)

    def wait(self, is_so: Callable[[], bool], timeout: float | None = None) -> None:
        """Wait until `is_so()`; the lock is held before and after, and `is_so` is called under it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_so():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                self.answer_later()
                raise TimeoutError(f"nothing came within {timeout} s")
            # Answers leave before anyone sleeps, or earlier with the app's next write.
            self.flush()
            if not self._reading:
                self._read(left)
            else:
                self._brought.wait(left)
        self.answer_later()

    def answer_later(self) -> None:
        """Have what the session has said leave soon, even if the app computes for long; the lock is held."""
        if self.session.out and self._late is None:
            self._late = threading.Timer(ANSWER_WITHIN_S, self._answer)
            self._late.daemon = True
            self._late.start()

    def ask_stop(self) -> None:
        """Have the session stopped by whoever waits next; takes no lock, so it may interrupt anything."""
        self.stop_asked = True
        if self._to_node >= 0:
            os.eventfd_write(self._wake, 1)

    def changed(self) -> None:
        """Let every thread that waits look again; the lock is held."""
        self._brought.notify_all()
        if self._reading:
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End the session; the descriptors go once nobody reads."""
        with self.lock:
            self.session.end(Failure(ErrorCode.CLOSED, "this app has closed its pipe"))
            self.changed()
            while self._reading:
                self._brought.wait()
            if self._to_node >= 0:
                for fd in (self._from_node, self._to_node, self._wake):
                    os.close(fd)
                self._from_node = self._to_node = -1
            if self._late is not None:
                self._late.cancel()

    def _answer(self) -> None:
        with self.lock:
            self._late = None
            if self._to_node >= 0:
                self.flush()
                self.answer_later()

    def _read(self, timeout: float | None) -> None:
        """Read the pipe once for all threads, without the lock meanwhile."""
        if self._to_node < 0:
            raise self.session.failure or pipe.closed()
        self._reading = True
        self._for_room = bool(self.session.out)
        poll = self._poll_room if self._for_room else self._poll
        size = -1
        events: list[tuple[int, int]] = []
        space = self._buffer.space()
        self.lock.release()
        try:
            events = poll.poll(None if timeout is None else max(0, int(timeout * 1_000) + 1))
            if any(fd == self._from_node and what != select.POLLOUT for fd, what in events):
                size = os.readv(self._from_node, [space])
        finally:
            self.lock.acquire()
            self._reading = False
            self._brought.notify_all()
        if any(fd == self._wake for fd, _ in events):
            os.eventfd_read(self._wake)
        if size == 0:
            self.session.end(pipe.closed())
        elif size > 0:
            self._buffer.filled(size)
            self.session.feed(self._buffer)
        if self.stop_asked:
            self.session.stop()


class Stream:
    """A reliable ordered stream of bytes in both directions."""

    def __init__(self, shared: _Pipe, state: StreamState) -> None:
        self._pipe = shared
        self._state = state

    def __repr__(self) -> str:
        return f"Stream({self._state.addr})"

    @property
    def local(self) -> Addr:
        """This end."""
        return self._state.local

    @property
    def remote(self) -> Addr:
        """The other end."""
        return self._state.remote

    def read(self, most: int = -1, timeout: float | None = None) -> bytes:
        """Return up to `most` bytes as soon as there are some, all until the end for -1, and b"" at the end.

        Raises Failure with the node's reason if the stream broke.
        """
        if most < 0:
            return b"".join(iter(lambda: self.read(MAX_LENGTH, timeout), b""))
        state = self._state
        with self._pipe.lock:
            self._pipe.wait(lambda: bool(state.size) or state.at_end or not most, timeout)
            if state.at_end:
                state.raise_failure()
            part = state.take(most)
            self._pipe.answer_later()
            return part

    def readexactly(self, size: int, timeout: float | None = None) -> bytes:
        """Return `size` bytes; raises IncompleteRead if the stream ends before, Failure if it breaks."""
        parts: list[bytes] = []
        left = size
        while left:
            part = self.read(min(left, MAX_LENGTH), timeout)
            if not part:
                raise IncompleteRead(b"".join(parts), size)
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __iter__(self) -> Iterator[bytes]:
        """Go through the bytes, as they come, until the end."""
        return iter(lambda: self.read(MAX_LENGTH), b"")

    def write(self, data: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Send bytes: at once on an idle stream, with what comes next on a busy one; waits while much is unsent."""
        state = self._state
        with self._pipe.lock:
            state.write(data)
            self._pipe.write_out(timeout, lambda: state.unsent <= HIGH_WATER)

    def drain(self, timeout: float | None = None) -> None:
        """Wait until the node has taken everything; raises Failure if it never will."""
        state = self._state
        with self._pipe.lock:
            self._pipe.wait(lambda: state.settled, timeout)
            state.check_sent()

    def write_eof(self) -> None:
        """End this direction after what was written; reading goes on."""
        with self._pipe.lock:
            self._state.finish()
            self._pipe.write_out()

    def close(self, timeout: float | None = None, reason: Failure | None = None) -> None:
        """End both directions, and wait until the node has taken everything that was written.

        A `reason` reaches the far app after the last byte: there would have been more.
        """
        state = self._state
        with self._pipe.lock:
            state.close(reason)
            self._pipe.changed()
            self._pipe.flush()
            self._pipe.wait(lambda: state.settled, timeout)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(reason=why_ended(error))


class App:
    """An app's connection with its node. Made by `App.setup`."""

    def __init__(self, shared: _Pipe) -> None:
        self._pipe = shared
        self._session = shared.session

    @classmethod
    def setup(cls, name: str, version: str, timeout: float | None = None) -> App:
        """Introduce the app to its node under the name and version of the node's config.

        Raises Failure if the node refuses, LocalError if no node started this process.
        """
        app = cls(_Pipe(*pipe.descriptors()))
        try:
            with app._pipe.lock:
                answers: list[Failure | None] = []
                app._session.init(name, version, lambda _body, failure: answers.append(failure))
                app._pipe.flush()
                app._pipe.wait(lambda: bool(answers), timeout)
            if answers[0] is not None:
                raise answers[0]
        except BaseException:
            app._pipe.close()
            raise
        return app

    @property
    def stopping(self) -> bool:
        """Whether the app was told to end, or its node is gone."""
        return self._pipe.stop_asked or self._session.state is not State.OPEN

    def stop(self) -> None:
        """Accept no more: `accept` raises, iteration ends. May be called in a signal handler."""
        self._pipe.ask_stop()

    def dial(self, remote: Addr | str, timeout: float | None = None) -> Stream:
        """Open a stream to `remote`, an Addr or "KEY:PORT".

        Raises Failure with the node's reason: which hop, which phase, why, and whether trying again makes sense.
        """
        addr = Addr.parse(remote) if isinstance(remote, str) else remote
        answers: list[tuple[StreamState | None, Failure | None]] = []
        given_up = False

        def answered(state: StreamState | None, failure: Failure | None) -> None:
            if state is not None and given_up:
                state.close()
            answers.append((state, failure))

        with self._pipe.lock:
            self._session.dial(addr, answered)
            self._pipe.flush()
            try:
                self._pipe.wait(lambda: bool(answers), timeout)
            except BaseException:
                given_up = True
                raise
        state, failure = answers[0]
        if failure is not None or state is None:
            raise failure or pipe.closed()
        return Stream(self._pipe, state)

    def accept(self, timeout: float | None = None) -> Stream:
        """Wait for the next stream from elsewhere; raises Failure (STOPPING, CLOSED) once there will be none."""
        session = self._session
        with self._pipe.lock:
            self._pipe.wait(lambda: bool(session.incoming) or self.stopping, timeout)
            self._check_open()
            state = session.accept()
            if state is None:
                raise Failure(ErrorCode.CLOSED, "no stream waits")
            self._pipe.flush()
            self._pipe.answer_later()
            return Stream(self._pipe, state)

    def __iter__(self) -> Iterator[Stream]:
        """Go through the streams from elsewhere until the app is told to end."""
        while not self.stopping:
            try:
                yield self.accept()
            except Failure as failure:
                if failure.code is ErrorCode.STOPPING:
                    return
                raise

    def receive(self, timeout: float | None = None) -> Packet:
        """Return the next packet of any stream: `(addr, payload)`, the bytes of one frame.

        Streams from elsewhere are accepted on the way and closed when they end. A stream's bytes come in order, but
        how they are cut into packets is the network's choice. Do not `accept` beside it.
        """
        got: list[Packet] = []

        def some() -> bool:
            packet = self._session.receive()
            if packet is not None:
                got.append(packet)
            return bool(got) or self.stopping

        with self._pipe.lock:
            self._pipe.wait(some, timeout)
            if not got:
                self._check_open()
            return got[0]

    def send(self, addr: LoopAddr, payload: bytes) -> None:
        """Send a packet by the loop that `receive` named; raises Failure if it has ended."""
        with self._pipe.lock:
            state = self._session.streams.get(addr)
            if state is None:
                raise Failure(ErrorCode.CLOSED, "this loop has ended")
            state.write(payload)
            self._pipe.write_out()

    def close(self, reason: Failure | None = None) -> None:
        """End the app's connection; open streams are closed, and what was written to any goes out first.

        An app that was told to end waits for that no longer than STOP_GRACE_S. A `reason` reaches the far apps.
        """
        session = self._session

        def written() -> bool:
            self._pipe.flush()
            return not session.owes

        with self._pipe.lock:
            if self._pipe.stop_asked:
                session.stop()
            session.close_streams(reason)
            try:
                self._pipe.wait(lambda: written() or session.state is State.STOPPING)
                self._pipe.wait(written, STOP_GRACE_S)
            except TimeoutError:
                session.cut_streams()
                self._pipe.flush()
        self._pipe.close()

    def __enter__(self) -> App:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(why_ended(error))

    def _check_open(self) -> None:
        if self._session.failure is not None:
            raise self._session.failure
        if self.stopping:
            raise Failure(ErrorCode.STOPPING, "the app was told to end")
