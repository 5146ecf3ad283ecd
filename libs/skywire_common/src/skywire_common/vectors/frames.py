"""The vectors of the app pipe: a request and its response, as whole frames and as fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple

from skywire_common import appframes
from skywire_common.appframes import FrameType
from skywire_common.errors import DecodeError
from skywire_common.vectors.fields import Fields

# Reads a body and writes it again as this code writes it.
Codec = Callable[[bytes], bytes]


class _Request(NamedTuple):
    kind: FrameType
    body: Codec
    success: Codec


def _init(body: bytes) -> bytes:
    return appframes.encode_init(appframes.decode_init(body))


def _addr(body: bytes) -> bytes:
    return appframes.encode_addr(appframes.decode_addr(body))


def _confirm(body: bytes) -> bytes:
    return appframes.encode_confirm(*appframes.decode_confirm(body))


def _send(body: bytes) -> bytes:
    addr, payload = appframes.decode_send(body)
    made = appframes.parse(appframes.send(appframes.send_prefix(addr), 0, payload))
    return bytes(made[0].body)


def _close(body: bytes) -> bytes:
    return appframes.encode_close(appframes.decode_close(body))


def _nothing(body: bytes) -> bytes:
    appframes.check_nothing(body)
    return bytes(appframes.parse(appframes.SUCCESS[0])[0].body)


_REQUESTS: Mapping[str, _Request] = {
    "Init": _Request(FrameType.INIT, _init, _nothing),
    "CreateLoop": _Request(FrameType.CREATE_LOOP, _addr, _addr),
    "ConfirmLoop": _Request(FrameType.CONFIRM_LOOP, _confirm, _nothing),
    "Send": _Request(FrameType.SEND, _send, _nothing),
    "Close": _Request(FrameType.CLOSE, _close, _nothing),
}


def check_app_frames(vector: Fields) -> None:
    """The bytes give the fields and the fields give the bytes, of a request and of its response."""
    name = vector.text("name")
    if name not in _REQUESTS:
        raise DecodeError(f"name is one of {', '.join(_REQUESTS)}, not {name[:40]!r}")
    request = _REQUESTS[name]
    vector.expect("request_type", vector.number("request_type"), int(request.kind))
    _check_frame(vector, "request", request.body)
    error = vector.text("error")
    if error:
        vector.expect("response_type", vector.number("response_type"), int(FrameType.FAILURE))
        vector.expect("error", error, vector.text("response_body"))
        _check_failure(vector, error)
    else:
        vector.expect("response_type", vector.number("response_type"), int(FrameType.SUCCESS))
        _check_frame(vector, "response", request.success)
    vector.expect("response_id", vector.number("response_id"), vector.number("request_id"))


def _check_frame(vector: Fields, side: str, codec: Codec) -> None:
    data = vector.octets(side)
    kind, request_id, body = _only_frame(data)
    vector.expect(f"{side}_type", vector.number(f"{side}_type"), kind)
    vector.expect(f"{side}_id", vector.number(f"{side}_id"), request_id)
    wanted = _json(vector.value(f"{side}_body"))
    # Compared as text, in one order: to Python 1, 1.0 and true are the same.
    vector.expect(f"{side}_body", wanted, _json(_load(body)))
    made = appframes.frame(vector.number(f"{side}_type", 1), vector.number(f"{side}_id", 1), codec(wanted.encode()))
    vector.expect(side, data, made)


def _check_failure(vector: Fields, text: str) -> None:
    data = vector.octets("response")
    _, request_id, body = _only_frame(data)
    vector.expect("error", text, appframes.read_failure(body))
    vector.expect("response_id", vector.number("response_id"), request_id)
    vector.expect("response", data, appframes.failure(request_id, text))


def _only_frame(data: bytes) -> tuple[int, int, bytes]:
    frames = appframes.parse(data)
    if len(frames) != 1:
        raise DecodeError(f"one frame was to be here, not {len(frames)}")
    return int(frames[0].type), frames[0].id, bytes(frames[0].body)


def _load(body: bytes) -> object:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the frame's body is not JSON: {error}") from error


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
