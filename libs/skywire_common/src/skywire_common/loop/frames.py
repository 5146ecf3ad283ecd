"""What travels inside a loop's seal: frames, one after the other, big-endian (docs/wire-format.md, Loop).

    01 data     offset 8 ‖ length 2 ‖ bytes
    02 data, to be acknowledged at once; same layout
    03 ack      largest counter 8 ‖ held back 4 (µs) ‖ next offset 8 ‖ window 4 ‖ ranges 1 ‖ (start 8 ‖ end 8)*
    04 close    final offset 8 ‖ mode 1 ‖ length 2 ‖ reason, UTF-8
    05 ping     token 8
    06 pong     token 8
    07 done     (empty)

An ack says: every byte below `next offset` arrived, and those in the ranges beyond it; nothing else did. Counters rise
strictly, so whatever was sent with a counter up to `largest` and is not acknowledged is lost. `window` counts from
`next offset`. A close counts as one byte after the last (a half-close) or two (a full one), so that it is acknowledged
like data. Done says that the sender of it has all there was and knows that its own end arrived.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from skywire_common.errors import DecodeError

DATA, DATA_ASK, ACK, CLOSE, PING, PONG, DONE = range(1, 8)

DATA_HEADER = struct.Struct(">BQH")
_ACK_HEADER = struct.Struct(">BQIQIB")
_RANGE = struct.Struct(">QQ")
_CLOSE_HEADER = struct.Struct(">BQBH")
_TOKEN = struct.Struct(">BQ")

MAX_RANGES = 32
MAX_REASON = 1024
MAX_OFFSET = 1 << 62
MAX_HELD_US = 0xFFFF_FFFF
MAX_ACK_SIZE = _ACK_HEADER.size + MAX_RANGES * _RANGE.size


class CloseMode(IntEnum):
    """How a direction ends."""

    HALF = 0  # no more from here; still reading
    FULL = 1  # no more from here, and nothing more is read
    ABORT = 2  # the loop is over now, whatever was under way


class Data(NamedTuple):
    """Bytes of the stream at an offset; `ask`: acknowledge at once. `data` is a view into the opened packet."""

    offset: int
    data: memoryview
    ask: bool


class Ack(NamedTuple):
    """What arrived; `held_back` is how long the largest counter waited for this ack, in seconds."""

    largest: int
    held_back: float
    next_offset: int
    window: int
    ranges: tuple[tuple[int, int], ...] = ()


class Close(NamedTuple):
    """The end of a direction at `final`, or of the loop; an orderly one has a reason only if someone wanted it."""

    final: int
    mode: CloseMode
    reason: str = ""


def close_units(close: Close) -> int:
    """Return how far beyond the final offset an ack of this close lies."""
    return 1 + close.mode


class Ping(NamedTuple):
    """Asks for a pong with the same token, and for an ack."""

    token: int


class Pong(NamedTuple):
    """Answers a ping."""

    token: int


class Done(NamedTuple):
    """Both directions are complete as far as the sender of this is concerned."""


Frame = Data | Ack | Close | Ping | Pong | Done


def encode(frame: Frame) -> bytes:
    """Return the bytes of one frame."""
    if isinstance(frame, Ack):
        largest, held_back, next_offset, window, ranges = frame
        held = min(round(held_back * 1e6), MAX_HELD_US)
        header = _ACK_HEADER.pack(ACK, largest, held, next_offset, window, len(ranges))
        return header + b"".join(_RANGE.pack(start, end) for start, end in ranges) if ranges else header
    match frame:
        case Data(offset, data, ask):
            return DATA_HEADER.pack(DATA_ASK if ask else DATA, offset, len(data)) + data
        case Close(final, mode, reason):
            # Cut between characters: half a one is none, and no valid end sends that.
            text = reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore").encode()
            return _CLOSE_HEADER.pack(CLOSE, final, mode, len(text)) + text
        case Ping(token):
            return _TOKEN.pack(PING, token)
        case Pong(token):
            return _TOKEN.pack(PONG, token)
        case Done():
            return bytes((DONE,))


def decode(plain: bytes) -> list[Frame]:
    """Read all frames of one opened packet; raises DecodeError unless every byte belongs to one."""
    view = memoryview(plain)
    frames: list[Frame] = []
    at, end = 0, len(plain)
    try:
        while at < end:
            kind = plain[at]
            if kind in (DATA, DATA_ASK):
                _, offset, length = DATA_HEADER.unpack_from(plain, at)
                start = at + DATA_HEADER.size
                at = start + length
                if at > end or offset + length > MAX_OFFSET:
                    raise DecodeError("a data frame reaches beyond its packet or the stream's limit")
                frames.append(Data(offset, view[start:at], kind == DATA_ASK))
            elif kind == ACK:
                ack, at = _ack(plain, at)
                frames.append(ack)
            elif kind == CLOSE:
                close, at = _close(plain, at)
                frames.append(close)
            elif kind in (PING, PONG):
                token: int = _TOKEN.unpack_from(plain, at)[1]
                frames.append(Ping(token) if kind == PING else Pong(token))
                at += _TOKEN.size
            elif kind == DONE:
                frames.append(Done())
                at += 1
            else:
                raise DecodeError(f"no frame has kind {kind}")
    except struct.error as error:
        raise DecodeError("the last frame is cut off") from error
    return frames


def _ack(plain: bytes, at: int) -> tuple[Ack, int]:
    _, largest, held, next_offset, window, count = _ACK_HEADER.unpack_from(plain, at)
    if count > MAX_RANGES:
        raise DecodeError(f"an ack names at most {MAX_RANGES} ranges, not {count}")
    at += _ACK_HEADER.size
    ranges = []
    reached = next_offset
    for _ in range(count):
        start, end = _RANGE.unpack_from(plain, at)
        if not reached < start < end <= MAX_OFFSET:
            raise DecodeError("the ranges of an ack do not ascend")
        ranges.append((start, end))
        reached = end
        at += _RANGE.size
    return Ack(largest, held / 1e6, next_offset, window, tuple(ranges)), at


def _close(plain: bytes, at: int) -> tuple[Close, int]:
    _, final, mode, length = _CLOSE_HEADER.unpack_from(plain, at)
    start = at + _CLOSE_HEADER.size
    end = start + length
    if end > len(plain) or length > MAX_REASON or final > MAX_OFFSET:
        raise DecodeError("a close frame reaches beyond its packet or its limits")
    try:
        return Close(final, CloseMode(mode), plain[start:end].decode()), end
    except ValueError as error:  # an unknown mode, or a reason that is not UTF-8
        raise DecodeError("a close frame has an unknown mode or a reason that is not UTF-8") from error
