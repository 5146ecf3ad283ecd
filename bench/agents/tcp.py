"""The yardstick's two programs over plain TCP: `tcp serve CONTROL NAME`, `tcp dial CONTROL NAME`.

Blocking sockets, a thread per stream, nothing on the way. A stream's first byte says what the server does with it:
S swallows, E echoes. The overlay's agents do the same over loops.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.agents.line import quantile, serve

CHUNK = 256 * 1024
SWALLOW, ECHO = b"S", b"E"


class Server:
    """Swallow or echo, and count."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._counts: dict[int, int] = {}
        self._open: set[int] = set()
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def address(self) -> dict[str, Any]:
        """Say where it listens."""
        return {"port": self._listener.getsockname()[1]}

    def counts(self) -> dict[str, Any]:
        """Say how many bytes each open stream has brought, and when that was."""
        return {"at": time.monotonic(), "bytes": [self._counts[number] for number in sorted(self._open)]}

    def expect(self, streams: int) -> dict[str, Any]:
        """Wait until so many streams are open that swallow."""
        with self._changed:
            return {"open": self._changed.wait_for(lambda: len(self._open) == streams, 30)}

    def _accept(self) -> None:
        number = 0
        while True:
            connection, _ = self._listener.accept()
            number += 1
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kind = connection.recv(1)
            if kind == SWALLOW:
                self._counts[number] = 0
                self._note(self._open.add, number)
                self._swallow(connection, number)
                self._note(self._open.discard, number)
            elif kind == ECHO:
                while data := connection.recv(65536):
                    connection.sendall(data)

    def _note(self, change: Callable[[int], None], number: int) -> None:
        with self._changed:
            change(number)
            self._changed.notify_all()

    def _swallow(self, connection: socket.socket, number: int) -> None:
        buffer = bytearray(CHUNK)
        counts = self._counts
        while size := connection.recv_into(buffer):
            counts[number] += size


class Dialler:
    """Send as fast as it goes, ping, open."""

    def __init__(self) -> None:
        self._going = False
        self._threads: list[threading.Thread] = []

    def start(self, to: int, streams: int, size: int) -> dict[str, Any]:
        """Send on so many streams, `size` bytes a write, until told to stop."""
        self._going = True
        self._threads = [threading.Thread(target=self._send, args=(to, size), daemon=True) for _ in range(streams)]
        for thread in self._threads:
            thread.start()
        return {}

    def stop(self) -> dict[str, Any]:
        """Stop sending."""
        self._going = False
        for thread in self._threads:
            thread.join()
        return {}

    def ping(self, to: int, count: int, size: int) -> dict[str, Any]:
        """Send so many times, each after the echo of the last; microseconds."""
        message, samples = os.urandom(size), []
        with _connect(to, ECHO) as stream:
            for _ in range(count):
                began = time.perf_counter()
                stream.sendall(message)
                left = size
                while left:
                    left -= len(stream.recv(left))
                samples.append((time.perf_counter() - began) * 1e6)
        return {"p50": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}

    def open(self, to: int, count: int) -> dict[str, Any]:
        """Open so many streams one after the other, each until its first echo; milliseconds."""
        samples = []
        for _ in range(count):
            began = time.perf_counter()
            with _connect(to, ECHO) as stream:
                stream.sendall(b"x")
                stream.recv(1)
                samples.append((time.perf_counter() - began) * 1e3)
        return {"p50": quantile(samples, 0.5), "p99": quantile(samples, 0.99)}

    def _send(self, to: int, size: int) -> None:
        chunk = os.urandom(size)
        with _connect(to, SWALLOW) as stream:
            while self._going:
                stream.sendall(chunk)


def _connect(port: int, kind: bytes) -> socket.socket:
    stream = socket.create_connection(("127.0.0.1", port))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(kind)
    return stream


def main(role: str, control: str, name: str) -> None:
    """Be one of the two until the control line ends."""
    if role == "serve":
        server = Server()
        serve(control, name, {"address": server.address, "counts": server.counts, "expect": server.expect})
    else:
        dialler = Dialler()
        serve(control, name, {what: getattr(dialler, what) for what in ("start", "stop", "ping", "open")})


if __name__ == "__main__":
    main(*sys.argv[1:])
