"""A neighbour of the measured node that costs little: `neighbour CONTROL NAME`.

It dials, settles, then floods or swallows.
As a source it seals ready-made records with blocking writes. As a sink it walks over records without opening them but
every SAMPLE-th, which must verify and bear a route id that it was told to expect.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from typing import Any

from skywire_common.curve import SecretKey
from skywire_common.errors import LinkError
from skywire_common.keys import PublicKey
from skywire_common.noise import TAG_SIZE, Cipher
from skywire_common.packet import HEADER, HEADER_SIZE
from skywire_node.link import settlement
from skywire_node.link.handshake import LinkHandshake
from skywire_node.link.records import LENGTH_SIZE, Kind, RecordReader, RecordWriter

from bench.agents.line import serve
from bench.agents.packets import plains, sealed

SAMPLE = 64
_BUFFER = 1 << 20


class Neighbour:
    """One link to the measured node."""

    def __init__(self) -> None:
        self._secret = SecretKey.generate()
        self._socket = socket.socket()
        self._seal: Cipher
        self._open: Cipher
        self._sent = 1  # records; the settlement was the first, either way
        self._going = False
        self._thread: threading.Thread | None = None
        self._packets = self._record_bytes = 0
        self._wrong = ""

    def key(self) -> dict[str, Any]:
        """Say who this is."""
        return {"key": str(self._secret.public)}

    def dial(self, address: str, key: str) -> dict[str, Any]:
        """Open a link and settle."""
        host, _, port = address.rpartition(":")
        remote = PublicKey.parse(key)
        self._socket = socket.create_connection((host, int(port)))
        handshake = LinkHandshake(self._secret, SecretKey.generate(), remote)
        self._socket.sendall(handshake.begin())
        while not handshake.finished:
            self._socket.sendall(handshake.feed(self._socket.recv(4096)))
        self._seal, self._open, rest = handshake.split()
        writer = RecordWriter(self._seal, self._socket.sendall)
        proposed = settlement.propose(self._secret, remote, "tcp", True)
        writer.record(Kind.SETTLE, proposed.to_json())
        reader = RecordReader(self._open, rest)
        records: list[tuple[int, memoryview]] = []
        while not records:
            records = list(reader.advance(self._socket.recv_into(reader.space())))
        settlement.complete(proposed, self._secret, remote, bytes(records[0][1]))
        return {"transport": str(proposed.entry.transport_id)}

    # -- as a source

    def flood(self, size: int, ids: list[int]) -> dict[str, Any]:
        """Send packets of `size` bytes under these route ids, in turn, until told to stop."""
        self._going = True
        self._thread = threading.Thread(target=self._flood, args=(size, ids), daemon=True)
        self._thread.start()
        return {}

    def _flood(self, size: int, ids: list[int]) -> None:
        for record in sealed(self._seal, self._sent, itertools.cycle(plains(size, ids))):
            self._socket.sendall(record)
            self._sent += 1
            if not self._going:
                return

    def stop(self) -> dict[str, Any]:
        """Stop sending."""
        self._going = False
        if self._thread is not None:
            self._thread.join()
        return {"records": self._sent}

    # -- as a sink

    def swallow(self, size: int, ids: list[int]) -> dict[str, Any]:
        """Count packets of `size` bytes from now on."""
        self._record_bytes = HEADER_SIZE + size
        self._packets = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._swallow, args=(set(ids),), daemon=True)
            self._thread.start()
        return {}

    def counts(self) -> dict[str, Any]:
        """Say how many packets came, and when that was."""
        return {"at": time.monotonic(), "packets": self._packets, **({"error": self._wrong} if self._wrong else {})}

    def _swallow(self, ids: set[int]) -> None:
        buffer = bytearray(_BUFFER)
        view = memoryview(buffer)
        counter = 1
        end = 0
        while size := self._socket.recv_into(view[end:]):
            end += size
            at = 0
            while end - at > LENGTH_SIZE:
                length = buffer[at] << 8 | buffer[at + 1]
                stop = at + LENGTH_SIZE + length
                if stop > end:
                    break
                if counter % SAMPLE == 0:
                    self._check(counter, view[at + LENGTH_SIZE : stop], ids)
                self._packets += (length - TAG_SIZE - 1) // self._record_bytes
                counter += 1
                at = stop
            buffer[: end - at] = view[at:end]
            end -= at

    def _check(self, counter: int, record: memoryview, ids: set[int]) -> None:
        plain = self._open.open(counter, record)
        _, route_id = HEADER.unpack_from(plain, 1)
        if plain[0] != Kind.PACKETS or route_id not in ids:
            self._wrong = f"record {counter} of kind {plain[0]} bears route id {route_id}"
            raise LinkError(self._wrong)


def main(control: str, name: str) -> None:
    """Answer until the control line ends."""
    neighbour = Neighbour()
    names = ("key", "dial", "flood", "stop", "swallow", "counts")
    serve(control, name, {what: getattr(neighbour, what) for what in names})


if __name__ == "__main__":
    main(*sys.argv[1:])
