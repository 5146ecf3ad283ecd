"""What two chats say to each other on a stream, and how far a message is. Pure.

    length 4 ‖ JSON

    {"say":"message","id","at","text"}    id 32 hex digits, at epoch ms of who wrote it
    {"say":"delivered","ids":[...]}       these are on the disk here
    {"say":"read","ids":[...]}            these were shown here
    {"say":"refused","id","why"}          this one is not taken, and will not be
    {"say":"asking","ids":[...]}          which of these were shown?

Either end may open the stream, both use it for everything. A message that was not answered is sent again on the next
stream; the id says that it is the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum

from skywire_common.errors import DecodeError

LENGTH_SIZE = 4
# A character is four bytes of UTF-8 or twelve of JSON at most.
MAX_CHARACTERS = 4_000
MAX_WHY = 200
MAX_IDS = 500
MAX_FRAME = 64 << 10
_LATEST_MS = 1 << 53
_ID = re.compile(r"[0-9a-f]{32}")


class State(IntEnum):
    """How far a message is. Append only: the numbers are on disk."""

    WAITING = 0
    SENT = 1
    DELIVERED = 2
    READ = 3
    REFUSED = 4


@dataclass(frozen=True)
class Message:
    """Something that a person wrote."""

    id: str
    at: int
    text: str


@dataclass(frozen=True)
class Delivered:
    """Messages that are on the other disk."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """Messages that the other person has seen."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Asking:
    """Messages of which the other side wants to know whether they were seen."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A message that the other chat does not take."""

    id: str
    why: str


Said = Message | Delivered | Read | Asking | Refused

_LISTS: dict[str, type[Delivered | Read | Asking]] = {"delivered": Delivered, "read": Read, "asking": Asking}
_NAMES = {kind: name for name, kind in _LISTS.items()}


def encode(said: Said) -> bytes:
    """Return length and JSON."""
    match said:
        case Message():
            fields: dict[str, object] = {"say": "message", "id": said.id, "at": said.at, "text": said.text}
        case Refused():
            fields = {"say": "refused", "id": said.id, "why": said.why[:MAX_WHY]}
        case _:
            fields = {"say": _NAMES[type(said)], "ids": said.ids}
    body = json.dumps(fields).encode()
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def frame_size(prefix: bytes) -> int:
    """Read the length of what follows; raises DecodeError if it is over 64 KiB."""
    size = int.from_bytes(prefix, "big")
    if size > MAX_FRAME:
        raise DecodeError("the app there speaks another protocol")
    return size


def decode(body: bytes) -> Said:
    """Read what was said; raises DecodeError."""
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise DecodeError("the app there speaks another protocol") from error
    if not isinstance(fields, dict):
        raise DecodeError("the app there speaks another protocol")
    say = fields.get("say")
    if say == "message":
        at = fields.get("at")
        if type(at) is not int or not 0 <= at < _LATEST_MS:
            raise DecodeError("a message says when it was written")
        return Message(_id(fields.get("id")), at, check_text(fields.get("text")))
    if say == "refused":
        why = fields.get("why")
        return Refused(_id(fields.get("id")), why[:MAX_WHY] if isinstance(why, str) else "")
    if not isinstance(say, str) or say not in _LISTS:
        raise DecodeError("the app there speaks another protocol")
    ids = fields.get("ids")
    if not isinstance(ids, list) or len(ids) > MAX_IDS:
        raise DecodeError(f"a list of at most {MAX_IDS} messages is wanted")
    return _LISTS[say](tuple(map(_id, ids)))


def check_text(text: object) -> str:
    """Return what a person wrote; raises DecodeError if it is empty, too long, or no text."""
    if not isinstance(text, str) or not text.strip():
        raise DecodeError("a message has a text")
    if len(text) > MAX_CHARACTERS:
        raise DecodeError(f"a message has at most {MAX_CHARACTERS} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DecodeError("a message is text that UTF-8 can carry") from error
    return text


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise DecodeError("an id is 32 hexadecimal digits")
    return value
