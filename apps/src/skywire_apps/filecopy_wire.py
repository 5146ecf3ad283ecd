"""What filecopy's two ends say over one stream.

    sender     length 4 ‖ {"name","size"}     size bytes     SHA-256 32     end of its direction
    receiver   length 4 ‖ {"ok","name","size","sha256","error","code"}      end of the stream

The receiver speaks once: after the last byte, or as soon as it will not go on. The file is whole if both ends computed
the same hash.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

LENGTH_SIZE = 4
HASH_SIZE = 32
MAX_HEAD = 4_096
MAX_NAME = 255
# Five full frames.
CHUNK = 240_000


class BadTransfer(Exception):
    """A file cannot be copied, and why; `code` is for programs.

    NO_FILECOPY      the other end says what no filecopy says
    BAD_NAME, NAME_TAKEN, TOO_LARGE, DISK_FULL, CANNOT_WRITE      the receiver will or can not have it
    NOT_A_FILE, CANNOT_READ, FILE_CHANGED                         the sender's file is none, or is not what it was
    DIFFERENT        what arrived is not what was sent
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Offer:
    """What is to come."""

    name: str
    size: int


@dataclass(frozen=True)
class Verdict:
    """What became of it; `error` is empty if all is well."""

    ok: bool
    name: str = ""
    size: int = 0
    sha256: str = ""
    error: str = ""
    code: str = ""


def encode(message: Offer | Verdict) -> bytes:
    """Return length and JSON."""
    body = json.dumps(asdict(message)).encode()
    return len(body).to_bytes(LENGTH_SIZE, "big") + body


def head_size(prefix: bytes) -> int:
    """Read the length of what follows; raises BadTransfer if it is over 4,096."""
    size = int.from_bytes(prefix, "big")
    if size > MAX_HEAD:
        raise BadTransfer("NO_FILECOPY", "the other end is no filecopy")
    return size


def decode_offer(body: bytes) -> Offer:
    """Read an offer and check that its name is one plain file's; raises BadTransfer."""
    fields = _fields(body)
    name, size = fields.get("name"), fields.get("size")
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise BadTransfer("NO_FILECOPY", "an offer has a name and a size")
    return Offer(check_name(name), size)


def decode_verdict(body: bytes) -> Verdict:
    """Read a verdict; raises BadTransfer."""
    fields = _fields(body)
    ok, name, size = fields.get("ok"), fields.get("name"), fields.get("size")
    sha256, error = fields.get("sha256"), fields.get("error")
    if not (isinstance(ok, bool) and isinstance(name, str) and type(size) is int):
        raise BadTransfer("NO_FILECOPY", "a verdict says ok, name and size")
    if not (isinstance(sha256, str) and isinstance(error, str)):
        raise BadTransfer("NO_FILECOPY", "a verdict says sha256 and error")
    code = fields.get("code", "")  # which older ones do not say
    return Verdict(ok, name, size, sha256, error, code if isinstance(code, str) else "")


def check_name(name: str) -> str:
    """Return the name if it can only mean one file within a folder; raises BadTransfer."""
    if not name or name.startswith(".") or len(name.encode("utf-8", "replace")) > MAX_NAME:
        raise BadTransfer("BAD_NAME", f"{name[:80]!r} is not taken as a file's name")
    if any(character in "/\\" or not character.isprintable() for character in name):
        raise BadTransfer("BAD_NAME", f"{name[:80]!r} is not taken as a file's name")
    return name


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise BadTransfer("NO_FILECOPY", "the other end is no filecopy") from error
    if not isinstance(fields, dict):
        raise BadTransfer("NO_FILECOPY", "the other end is no filecopy")
    return fields
