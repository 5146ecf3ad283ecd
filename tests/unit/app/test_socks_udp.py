"""Datagrams of one association: what waits for its stream, and whom the far side may hear from."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from skywire_apps import socks_udp
from skywire_apps.access import Access
from skywire_apps.exit_wire import LENGTH_SIZE, MAX_DATAGRAM
from skywire_apps.names import Names
from skywire_apps.socks import Target, parse_packed
from skywire_apps.socks_udp import QUEUE, Outbox, _Remote


class Stream:
    """Keep what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    async def drain(self) -> None:
        """Never wait."""


async def sent(outbox: Outbox) -> list[int]:
    """Let an outbox send all that waits; the lengths of the datagrams."""
    stream: Any = outbox._stream
    running = asyncio.create_task(outbox.run())
    while outbox._queue and not running.done():
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for data in stream.written:
        assert len(data) == LENGTH_SIZE + int.from_bytes(data[:LENGTH_SIZE], "big")
    return [len(data) - LENGTH_SIZE for data in stream.written]


async def test_a_datagram_is_bounded() -> None:
    outbox = Outbox(Stream())  # type: ignore[arg-type]
    for size in (MAX_DATAGRAM, MAX_DATAGRAM + 1, 9):
        outbox.put(bytes(size))
    assert await sent(outbox) == [MAX_DATAGRAM, 9]


async def test_datagrams_that_wait_are_bounded() -> None:
    outbox = Outbox(Stream())  # type: ignore[arg-type]
    for number in range(QUEUE + 5):
        outbox.put(bytes(number))
    assert await sent(outbox) == list(range(QUEUE))


async def test_peers_and_names_that_an_association_knows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks_udp, "MAX_PEERS", 2)
    monkeypatch.setattr(socks_udp, "MAX_NAMES", 1)
    outbox = Outbox(Stream())  # type: ignore[arg-type]
    remote = _Remote(Names(Access.parse(["127.0.0.0/8"], [])), outbox)
    peers = []
    for _ in range(3):
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        peers.append(peer)
    try:
        for peer in peers:
            await remote.send(Target("127.0.0.1", peer.getsockname()[1]), b"to the peer")
        assert len(remote._known) == 1
        for peer in peers:
            peer.settimeout(20)
            data, exit_address = peer.recvfrom(100)
            assert data == b"to the peer"
            peer.sendto(b"to the program", ("127.0.0.1", exit_address[1]))
        async with asyncio.timeout(20):
            while len(outbox._queue) < 2:
                await asyncio.sleep(0)
        # Who was sent to longest ago is heard no more.
        heard = [parse_packed(packed) for packed in outbox._queue]
        assert heard == [(Target("127.0.0.1", peer.getsockname()[1]), b"to the program") for peer in peers[1:]]
    finally:
        remote.close()
        for peer in peers:
            peer.close()
