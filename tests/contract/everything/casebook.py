"""Contract cases as data: what is asked by whom, and what must come back.

A file in `cases/` is {"service", "access": {method: who may call}, "cases": [{"name", "needs", "steps"}]}. A step is

    {"call": METHOD, "by": ACTOR, "request": {…}, "expect": {…}, "save": {NAME: FIELD}, "error": CODE}

`by` names whose key signs; without it the call is unsigned. An actor that the target has no key for is a new key; so
is "stranger". `needs` names what the target must have ("played": neighbours that do as they are told), or the case is
left out there. Bytes are hex digits. A word that starts with $ stands for something else:

    $key.ACTOR  its public key     $bytes16.NAME  new random bytes, the same all through the case
    $node, $pair, …  what the target knows    $NAME  what an earlier step saved    $now+7200  epoch seconds

`expect` is a part of the answer: what it does not name may be anything. "*" is anything but empty, {"length": n} that
many, {"matches": "…"} a regular expression, {"of": [..]} one of these.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from skywire.common.v1 import process_pb2
from skywire.node.v1 import node_admin_pb2, node_control_pb2, node_link_pb2
from skywire.setup_node.v1 import setup_node_pb2
from skywire.transport_discovery.v1 import transport_discovery_pb2
from skywire_common.curve import SecretKey
from skywire_common.rpc.server import Access

MODULES = (
    process_pb2,
    node_admin_pb2,
    node_control_pb2,
    node_link_pb2,
    setup_node_pb2,
    transport_discovery_pb2,
)
FILES = sorted((Path(__file__).parent / "cases").glob("*.json"))
BOOKS: dict[str, dict[str, Any]] = {book["service"]: book for book in (json.loads(path.read_text()) for path in FILES)}
_BYTES = FieldDescriptor.TYPE_BYTES
_MESSAGE = FieldDescriptor.TYPE_MESSAGE
_NOW = re.compile(r"\$now([+-]\d+)?")


def services() -> dict[str, list[str]]:
    """Return every service of every proto with its methods."""
    return {
        service.full_name: [method.name for method in service.methods]
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
    }


def method_of(service: str, method: str) -> Any:
    """Return a method's descriptor."""
    return descriptor_pool.Default().FindServiceByName(service).FindMethodByName(method)  # type: ignore[no-untyped-call]


class Words:
    """What the words of one case stand for."""

    def __init__(self, known: Mapping[str, Any], keys: Mapping[str, SecretKey]) -> None:
        self._known = dict(known)
        self._keys = dict(keys)

    def key(self, actor: str) -> SecretKey:
        """Return the key of an actor, a new one if nobody has it."""
        return self._keys.setdefault(actor, SecretKey.generate())

    def save(self, name: str, value: Any) -> None:
        self._known[name] = value

    def meaning(self, value: Any) -> Any:
        """Return what a word stands for, or the value itself."""
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        now = _NOW.fullmatch(value)
        if now:
            return int(time.time()) + int(now[1] or 0)
        word = value[1:]
        if word.startswith("key."):
            return bytes(self.key(word.removeprefix("key.")).public)
        name, *path = word.split(".")
        if name.startswith("bytes"):
            return self._known.setdefault(word, secrets.token_bytes(int(name.removeprefix("bytes"))))
        found = self._known[name]
        for part in path:
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        return found() if callable(found) else found


def fill(message: Message, document: Mapping[str, Any], words: Words) -> Message:
    """Set the fields of a message from a case's document."""
    for name, value in document.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        meant = words.meaning(value)
        if isinstance(meant, Message):
            getattr(message, name).CopyFrom(meant)
        elif field.is_repeated:
            many = getattr(message, name)
            for one in meant:
                inner = words.meaning(one)
                if field.type == _MESSAGE:
                    added = many.add()
                    added.CopyFrom(inner) if isinstance(inner, Message) else fill(added, inner, words)
                else:
                    many.append(_scalar(field, inner))
        elif field.type == _MESSAGE:
            fill(getattr(message, name), meant, words)
            getattr(message, name).SetInParent()
        else:
            setattr(message, name, _scalar(field, meant))
    return message


def _scalar(field: Any, value: Any) -> Any:
    return bytes.fromhex(value) if field.type == _BYTES and isinstance(value, str) else value


def request_of(service: str, method: str, document: Mapping[str, Any], words: Words) -> Message:
    """Make the request of a step."""
    kind = message_factory.GetMessageClass(method_of(service, method).input_type)
    return fill(kind(), document, words)


def answer_type(service: str, method: str) -> type[Message]:
    return message_factory.GetMessageClass(method_of(service, method).output_type)


def compare(wanted: Any, found: Any, words: Words, where: str = "answer") -> None:
    """Raise AssertionError unless what was found has what is wanted."""
    wanted = words.meaning(wanted)
    if wanted == "*":
        assert found or found == 0, f"{where} is empty"
    elif isinstance(wanted, dict) and not isinstance(found, Message):
        if "length" in wanted:
            assert len(found) == wanted["length"], f"{where} has {len(found)}, not {wanted['length']}"
        elif "matches" in wanted:
            assert re.search(wanted["matches"], str(found)), f"{where} is {found!r}, not {wanted['matches']}"
        else:
            assert found in wanted["of"], f"{where} is {found!r}, none of {wanted['of']}"
    elif isinstance(wanted, dict):
        for name, inner in wanted.items():
            compare(inner, getattr(found, name), words, f"{where}.{name}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), f"{where} has {len(found)}, not {len(wanted)}: {found}"
        for at, (one, other) in enumerate(zip(wanted, found, strict=True)):
            compare(one, other, words, f"{where}[{at}]")
    else:
        meant = bytes.fromhex(wanted) if isinstance(found, bytes) and isinstance(wanted, str) else wanted
        assert found == meant, f"{where} is {found!r}, not {meant!r}"


def who(book: Mapping[str, Any], method: str) -> Access:
    """Return who may call a method, as the cases say."""
    return Access(book["access"][method])
