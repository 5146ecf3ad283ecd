"""Frames between a node and an app, over the app's file descriptors 3 and 4 (docs/wire-format.md, App pipe).

     0        2      3    4
    +--------+------+----+--------------
    | length | type | id | JSON ...
    +--------+------+----+--------------

The length counts type, id and JSON, so it is 2 to 65,535. Bodies are written without spaces, keys in the original's
order, and read in any order and spacing; unknown keys are skipped. A Send has a fast path both ways: all of its body
but the payload is one constant per loop (`send_prefix`), and base64 holds neither quote nor backslash, so a body that
is a known prefix, strict base64 and `"}` needs no JSON parser to be read exactly. Only the standard library and
pybase64 are imported: an app's SDK loads this within milliseconds.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import NamedTuple

import pybase64

from skywire_common.errors import DecodeError, LocalError
from skywire_common.keys import Addr, PublicKey, check_port

HEADER = struct.Struct(">HBB")
HEADER_SIZE = HEADER.size
MAX_LENGTH = 0xFFFF
MAX_BODY = MAX_LENGTH - 2
MAX_FRAME = 2 + MAX_LENGTH
MAX_REQUEST_ID = 254
REQUEST_IDS = MAX_REQUEST_ID + 1
# A reply to what had no readable id bears this one.
NO_ID = 255
# What fits a frame whatever the loop: 64,000 digits of base64 and less than 200 bytes of JSON.
SAFE_PAYLOAD = 48_000
MAX_PREFIX = 160
MAX_TEXT = 4_096
PROTOCOL_VERSION = "0.0.1"
BUFFER_SIZE = 4 * MAX_FRAME

_PAYLOAD_KEY = b'"payload":"'


class FrameType(IntEnum):
    """What a frame asks or answers. Append only."""

    INIT = 0x00
    CREATE_LOOP = 0x01
    CONFIRM_LOOP = 0x02
    SEND = 0x03
    CLOSE = 0x04
    FAILURE = 0xFE
    SUCCESS = 0xFF


_SEND = int(FrameType.SEND)  # looking a member up in its enum is slow (Python 3.11)


class Frame(NamedTuple):
    """One frame; `type` may be a number that is no FrameType, `body` is valid until the buffer's next `space`."""

    type: int
    id: int
    body: memoryview


class LoopAddr(NamedTuple):
    """A loop as its app names it: the own port, and the far end."""

    port: int
    remote: Addr

    def __str__(self) -> str:
        return f"{self.port}<>{self.remote}"


class Init(NamedTuple):
    """An app's first frame.

    `window`: how many Sends per loop it takes before it answered the first. `late_answers`: the node may answer one
    Send with what it says next, a little later.
    """

    app_name: str
    app_version: str
    protocol_version: str = PROTOCOL_VERSION
    window: int = 1
    half_close: bool = False
    late_answers: bool = False


class Close(NamedTuple):
    """The end of a loop, or with `half` of the sender's direction; `reason` is empty after an orderly end."""

    addr: LoopAddr
    half: bool = False
    reason: str = ""


class FrameBuffer:
    """Parse frames in place from one buffer that is used again and again.

    Read into `space()`, say how much with `filled(n)`, then call `next()` until it returns None. The buffer holds
    the largest frame several times over, so there is always space after that; what is incomplete is at most a frame.
    """

    def __init__(self, size: int = BUFFER_SIZE) -> None:
        if size < MAX_FRAME:
            raise LocalError(f"a frame may have {MAX_FRAME} bytes, a buffer of {size} cannot hold it")
        self._view = memoryview(bytearray(size))
        self._start = 0
        self._end = 0

    @property
    def pending(self) -> int:
        """Bytes that are not yet a whole frame."""
        return self._end - self._start

    @property
    def begun(self) -> tuple[int, int] | None:
        """Type and size of the frame that is not whole yet; None while its first three bytes are not there."""
        start = self._start
        if self._end - start < HEADER_SIZE - 1:
            return None
        view = self._view
        return view[start + 2], 2 + (view[start] << 8 | view[start + 1])

    def space(self) -> memoryview:
        """Return where to read into, at least one byte long once `next` returned None."""
        if self._start:
            rest = self._end - self._start
            if rest:
                self._view[:rest] = self._view[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def filled(self, size: int) -> None:
        """Count `size` bytes that were read into `space`."""
        self._end += size

    def next(self) -> Frame | None:
        """Return the next whole frame, None if more bytes are needed; raises DecodeError for a length under 2."""
        start = self._start
        have = self._end - start
        if have < 2:
            return None
        view = self._view
        length = view[start] << 8 | view[start + 1]
        if length < 2:
            raise DecodeError(f"a frame has a type and an id, a length of {length} has no room for them")
        if have < 2 + length:
            return None
        end = self._start = start + 2 + length
        return Frame(view[start + 2], view[start + 3], view[start + HEADER_SIZE : end])


def parse(data: bytes) -> list[Frame]:
    """Read whole frames, all of `data`; raises DecodeError. For tests and tools."""
    buffer = FrameBuffer(max(len(data), MAX_FRAME))
    buffer.space()[: len(data)] = data
    buffer.filled(len(data))
    frames = []
    while (frame := buffer.next()) is not None:
        frames.append(frame)
    if buffer.pending:
        raise DecodeError(f"{buffer.pending} bytes are not a whole frame")
    return frames


def frame(kind: int, request_id: int, body: bytes = b"") -> bytes:
    """Return a frame; raises LocalError if the body does not fit, so that the length never wraps."""
    if len(body) > MAX_BODY:
        raise LocalError(f"a frame carries at most {MAX_BODY} bytes of JSON, not {len(body)}")
    return HEADER.pack(len(body) + 2, kind, request_id) + body


SUCCESS = tuple(frame(FrameType.SUCCESS, request_id, b"null") for request_id in range(REQUEST_IDS))


def failure(request_id: int, text: str) -> bytes:
    """Return a ResponseFailure: the text itself, not JSON, cut at 4,096 bytes."""
    return frame(FrameType.FAILURE, request_id, text.encode("utf-8", "replace")[:MAX_TEXT])


def read_failure(body: bytes | memoryview) -> str:
    """Return the text of a ResponseFailure, cut at 4,096 bytes; bytes that are no UTF-8 are shown as such."""
    return bytes(body[:MAX_TEXT]).decode("utf-8", "replace")


def encode_init(init: Init) -> bytes:
    """Return the body of an Init; what an original app has no word for is left out at its default."""
    body: dict[str, object] = {
        "app-name": init.app_name,
        "app-version": init.app_version,
        "protocol-version": init.protocol_version,
    }
    if init.window != 1:
        body["window"] = init.window
    if init.half_close:
        body["half_close"] = True
    if init.late_answers:
        body["late_answers"] = True
    return _dump(body)


def decode_init(body: bytes | memoryview) -> Init:
    """Read the body of an Init."""
    fields = _object(body)
    window = fields.get("window", 1)
    if type(window) is not int or window < 1:
        raise DecodeError("window is a number from 1")
    return Init(
        _text(fields, "app-name"),
        _text(fields, "app-version"),
        _text(fields, "protocol-version"),
        window,
        _flag(fields, "half_close"),
        _flag(fields, "late_answers"),
    )


def encode_addr(addr: Addr) -> bytes:
    """Return `{"pk","port"}`: the body of a CreateLoop and of its success."""
    return b'{"pk":"%b","port":%d}' % (str(addr.public_key).encode(), addr.port)


def decode_addr(body: bytes | memoryview) -> Addr:
    """Read `{"pk","port"}`."""
    return _addr(_load(body))


def encode_confirm(local: Addr, remote: Addr) -> bytes:
    """Return the body of a ConfirmLoop."""
    return b"[%b,%b]" % (encode_addr(local), encode_addr(remote))


def decode_confirm(body: bytes | memoryview) -> tuple[Addr, Addr]:
    """Read the body of a ConfirmLoop: local, then remote."""
    pair = _load(body)
    if not isinstance(pair, list) or len(pair) != 2:
        raise DecodeError("a ConfirmLoop is a list of two addresses")
    return _addr(pair[0]), _addr(pair[1])


def encode_close(close: Close) -> bytes:
    """Return the body of a Close."""
    addr = close.addr
    body: dict[str, object] = {
        "port": addr.port,
        "remote": {"pk": str(addr.remote.public_key), "port": addr.remote.port},
    }
    if close.half:
        body["half"] = True
    if close.reason:
        body["reason"] = close.reason[:MAX_TEXT]
    return _dump(body)


def decode_close(body: bytes | memoryview) -> Close:
    """Read the body of a Close; its reason is cut at 4,096 characters."""
    fields = _object(body)
    reason = _text(fields, "reason")[:MAX_TEXT] if "reason" in fields else ""
    # JSON may escape half a character, which nobody could pass on.
    return Close(_loop_addr(fields), _flag(fields, "half"), reason.encode("utf-8", "replace").decode())


def send_prefix(addr: LoopAddr) -> bytes:
    """Return all of a Send's body before the payload; the same for every Send of a loop."""
    return b'{"addr":{"port":%d,"remote":%b},"payload":"' % (addr.port, encode_addr(addr.remote))


def send(prefix: bytes, request_id: int, payload: bytes | bytearray | memoryview) -> bytes:
    """Return a whole Send frame; raises LocalError if the payload does not fit (48,000 bytes always do)."""
    text = pybase64.b64encode(payload)
    length = 4 + len(prefix) + len(text)
    if length > MAX_LENGTH:
        raise LocalError(f"a frame carries about {SAFE_PAYLOAD} bytes of payload, not {len(payload)}")
    return b"".join((HEADER.pack(length, _SEND, request_id), prefix, text, b'"}'))


def split_send(body: memoryview) -> tuple[bytes, memoryview] | None:
    """Cut a Send as `send` writes it into prefix and base64; None if it is written otherwise.

    Only a prefix that equals the `send_prefix` of a loop, with base64 that `decode_payload` accepts, is a Send: the
    caller looks the prefix up, and reads anything else by `decode_send`.
    """
    head = bytes(body[:MAX_PREFIX])
    at = head.find(_PAYLOAD_KEY)
    if at < 0 or bytes(body[-2:]) != b'"}':
        return None
    at += len(_PAYLOAD_KEY)
    return head[:at], body[at:-2]


def decode_payload(text: memoryview | str) -> bytes:
    """Read strict base64: no junk, no spaces, padding where it belongs."""
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError as error:
        raise DecodeError("a payload is not base64") from error


def decode_send(body: bytes | memoryview) -> tuple[LoopAddr, bytes]:
    """Read the body of any Send; a payload of null is empty."""
    fields = _object(body)
    addr = fields.get("addr")
    if not isinstance(addr, dict) or "payload" not in fields:
        raise DecodeError("a Send has addr and payload")
    payload = "" if fields["payload"] is None else _text(fields, "payload")
    return _loop_addr(addr), decode_payload(payload)


def check_nothing(body: bytes | memoryview) -> None:
    """Check the body of a success that has nothing to say: `null` or empty."""
    if body and body != b"null" and _load(body) is not None:
        raise DecodeError("the success of this request has no body")


def _dump(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def _load(body: bytes | memoryview) -> object:
    try:
        return json.loads(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise DecodeError("a body is not JSON") from error


def _object(body: bytes | memoryview) -> dict[str, object]:
    fields = _load(body)
    if not isinstance(fields, dict):
        raise DecodeError("a body is not a JSON object")
    return fields


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise DecodeError(f"{name} is not a text")
    return value


def _flag(fields: dict[str, object], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise DecodeError(f"{name} is true or false")
    return value


def _port(fields: dict[str, object]) -> int:
    port = fields.get("port")
    if type(port) is not int:
        raise DecodeError("port is not a number")
    return check_port(port)


def _addr(value: object) -> Addr:
    if not isinstance(value, dict):
        raise DecodeError("an address is an object of pk and port")
    return Addr(PublicKey.parse(_text(value, "pk")), _port(value))


def _loop_addr(fields: dict[str, object]) -> LoopAddr:
    return LoopAddr(_port(fields), _addr(fields.get("remote")))
