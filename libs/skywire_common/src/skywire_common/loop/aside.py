"""Pings and pongs of a loop over a pair of routes that stands by (docs/wire-format.md, Standby).

Their payload looks like any other of the loop, `counter 8 ‖ sealed frame`, and is sealed with the loop's keys. But
their counters begin at ASIDE and are counted apart: routes differ in speed, and a packet of the stream that is
overtaken by a higher counter would be dropped.
"""

from __future__ import annotations

from skywire_common.errors import DecodeError
from skywire_common.loop import frames
from skywire_common.loop.endpoint import COUNTER_SIZE, OVERHEAD
from skywire_common.noise import Cipher

ASIDE = 1 << 63
PAYLOAD_SIZE = OVERHEAD + 9


def is_aside(payload: bytes | memoryview) -> bool:
    """Say whether a packet's payload is no part of the stream, by its counter; nothing is verified yet."""
    return len(payload) > 0 and payload[0] >= ASIDE >> 56


class Aside:
    """One end's pings and pongs beside the stream. `seal` and `open_` are the loop's ciphers."""

    __slots__ = ("_counter", "_last", "_open_cipher", "_seal_cipher")

    def __init__(self, seal: Cipher, open_: Cipher) -> None:
        self._seal_cipher = seal
        self._open_cipher = open_
        self._counter = ASIDE
        self._last = ASIDE - 1

    def seal(self, frame: frames.Ping | frames.Pong, out: memoryview) -> None:
        """Seal a frame into `out`, which has PAYLOAD_SIZE bytes; this uses up a counter."""
        counter = self._counter
        self._counter = counter + 1
        out[:COUNTER_SIZE] = counter.to_bytes(COUNTER_SIZE, "big")
        self._seal_cipher.seal_into(counter, frames.encode(frame), out[COUNTER_SIZE:])

    def open(self, payload: bytes | memoryview) -> frames.Ping | frames.Pong:
        """Open a payload that `is_aside`; raises DecodeError if it is not authentic, not new, or anything else."""
        if len(payload) != PAYLOAD_SIZE:
            raise DecodeError(f"what goes beside the stream has {PAYLOAD_SIZE} bytes, not {len(payload)}")
        counter = int.from_bytes(payload[:COUNTER_SIZE], "big")
        if counter <= self._last:
            raise DecodeError("this was heard before")
        received = frames.decode(self._open_cipher.open(counter, payload[COUNTER_SIZE:]))
        if len(received) != 1 or not isinstance(received[0], frames.Ping | frames.Pong):
            raise DecodeError("beside the stream go pings and pongs")
        self._last = counter
        return received[0]
