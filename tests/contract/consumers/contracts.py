"""What a consumer expects of a provider, as data: `nodes.json` and so on beside this file.

    {"consumer": "node", "provider": "discovery",
     "calls": {"/package.Service/Method": {"sends": [fields it sets], "reads": [fields of the answer that it needs],
                                           "sometimes": [what of both is not there each time]}}}

A field is a path with dots; one of a repeated message stands for all of them. What is not named may be missing or new
at the other end: a contract is what two releases have to have in common.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

FILES = sorted(Path(__file__).parent.glob("*.json"))


@dataclass(frozen=True)
class Call:
    """One method: what the consumer sets, what it needs back."""

    sends: frozenset[str]
    reads: frozenset[str]
    sometimes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Contract:
    """What one service expects of another."""

    consumer: str
    provider: str
    calls: dict[str, Call]


def load() -> list[Contract]:
    """Read all contracts."""
    found = []
    for path in FILES:
        document: dict[str, Any] = json.loads(path.read_text())
        calls = {
            method: Call(frozenset(call["sends"]), frozenset(call["reads"]), frozenset(call.get("sometimes", ())))
            for method, call in document["calls"].items()
        }
        found.append(Contract(document["consumer"], document["provider"], calls))
    return found


def fields(message: Message, before: str = "") -> Iterator[str]:
    """Yield the path of every field that is set, of messages those of their fields, and their own if they are empty."""
    for descriptor, value in message.ListFields():
        path = f"{before}{descriptor.name}"
        if descriptor.message_type is None:
            yield path
            continue
        for one in value if descriptor.is_repeated else (value,):
            inner = list(fields(one, f"{path}."))
            yield from inner or [path]


def cut(message: Message, to: frozenset[str], before: str = "") -> None:
    """Clear every field that no path names."""
    for descriptor, value in message.ListFields():
        path = f"{before}{descriptor.name}"
        if path in to:
            continue
        if descriptor.message_type is None or not any(one.startswith(f"{path}.") for one in to):
            message.ClearField(descriptor.name)
            continue
        for one in value if descriptor.is_repeated else (value,):
            cut(one, to, f"{path}.")
