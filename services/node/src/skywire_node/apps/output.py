"""What an app prints, line by line into the node's log with the app's name."""

from __future__ import annotations

import asyncio
import os

from structlog.typing import FilteringBoundLogger

LONGEST_LINE = 8_192
READ_SIZE = 32 << 10
# Characters of the last line that are kept, to say why an app ended.
LAST_SHOWN = 300
# Beyond this rate the app waits in its own write.
BYTES_PER_S = 1 << 20


class Output:
    """Read one descriptor until its end; owns it."""

    def __init__(self, fd: int, log: FilteringBoundLogger) -> None:
        self._fd = fd
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        # What was printed last, of lines with anything on them.
        self.last = ""
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Log what is there already, and close."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        # At most what a pipe holds: whoever wrote it is gone or no longer heard.
        for _ in range((1 << 20) // READ_SIZE):
            if not self._read():
                break
        self._end()

    def _readable(self) -> None:
        if self._read():
            self._loop.remove_reader(self._fd)
            self._pause = self._loop.call_later(READ_SIZE / BYTES_PER_S, self._resume)

    def _resume(self) -> None:
        self._pause = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._readable)

    def _read(self) -> bool:
        """Log what one read gives; True if there may be much more."""
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > LONGEST_LINE:
            self._line(self._rest)
            self._rest = b""
        return len(data) == READ_SIZE

    def _line(self, line: bytes) -> None:
        text = line[:LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")
        self.last = text.strip()[:LAST_SHOWN] or self.last
        self._log.info("app output", line=text)

    def _end(self) -> None:
        if self._fd < 0:
            return
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
