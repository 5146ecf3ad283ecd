"""A relay in plain Python on uvloop, the least that a hop in this language can do: `... HOST PORT` prints its port."""

from __future__ import annotations

import asyncio
import sys

import uvloop


class Half(asyncio.Protocol):
    """One of the two connections; what it reads the other one writes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def join(self, other: Half) -> None:
        """Begin to pass on."""
        self.other = other
        if other.transport is not None:
            other.transport.writelines(self.early)
        self.early.clear()

    def eof_received(self) -> bool:
        if self.other is not None and self.other.transport is not None and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class Accepted(Half):
    """The connection that came in; makes the one that goes on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._next = host, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        try:
            _, far = await asyncio.get_running_loop().create_connection(Half, *self._next)
        except OSError:
            if self.transport is not None:
                self.transport.close()
            return
        far.join(self)
        self.join(far)


async def main(host: str, port: int) -> None:
    """Relay until the process is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Accepted(host, port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
