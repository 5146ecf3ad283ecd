"""The original's bytes (skywire-2019.json): this code gives them all, and the check sees every change."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from skywire_common.errors import DecodeError
from skywire_common.vectors import check
from skywire_common.vectors.sections import SECTIONS

GOLDEN = Path(__file__).with_name("skywire-2019.json")
DOCUMENT: dict[str, list[Any]] = check.parse(GOLDEN.read_bytes())
HEX = frozenset("0123456789abcdef")
# A handshake takes two milliseconds, so fewer of its bytes are changed.
MOST = {"noise": 6}
Steps = tuple[str | int, ...]


def leaves(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Walk to every value that is no list or object."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from leaves(child, (*steps, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from leaves(child, (*steps, index))
    else:
        yield steps, value


def places(section: str) -> list[str]:
    return [".".join(map(str, steps)) for steps, _ in leaves(DOCUMENT[section])]


def changes(value: Any) -> Iterator[Any]:
    """Return the value with each of its bytes changed in turn."""
    if value is None:
        yield from (0, "", [])
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, str(value), float(value))
        if value:
            yield value - 1
    elif not value:
        yield from ("0", "00", None)
    else:
        for index, char in enumerate(value):
            # Another digit where digits stand, so that the change is one of meaning and not of form alone.
            other = f"{int(char, 16) ^ 1:x}" if char in HEX else chr(ord(char) ^ 1)
            yield value[:index] + other + value[index + 1 :]
        yield value + "0"
        yield value[:-1]


def sample(value: Any, most: int) -> list[Any]:
    """Keep all changes of short values, and of long ones both ends and evenly between them."""
    every = list(changes(value))
    step = max(1, len(every) // most)
    return every if step == 1 else [*every[:2], *every[2:-2:step], *every[-2:]]


def with_change(section: str, steps: Steps, value: Any) -> dict[str, list[Any]]:
    changed = copy.deepcopy(DOCUMENT[section][int(steps[0])])
    at: Any = [changed]
    for step in (0, *steps[1:-1]):
        at = at[step]
    at[steps[-1]] = value
    return {section: [changed]}


@pytest.mark.parametrize("section", DOCUMENT)
def test_section_holds_to_the_byte(section: str) -> None:
    (result,) = check.run({section: DOCUMENT[section]}, SECTIONS)
    assert result.findings == ()
    assert result.checked == len(DOCUMENT[section]) > 0


@pytest.mark.parametrize("section", DOCUMENT)
def test_every_changed_byte_of_every_field_is_seen(section: str) -> None:
    unseen = [
        (steps, value)
        for steps, original in leaves(DOCUMENT[section])
        for value in sample(original, MOST.get(section, 200))
        if not check.run(with_change(section, steps, value), SECTIONS)[0].findings
    ]
    assert unseen == []


@pytest.mark.parametrize("section", DOCUMENT)
def test_missing_and_unknown_fields_are_seen(section: str) -> None:
    for index, vector in enumerate(DOCUMENT[section]):
        for name in vector:
            without = {key: value for key, value in vector.items() if key != name}
            assert check.run({section: [without]}, SECTIONS)[0].findings, (index, name)
        assert check.run({section: [{**vector, "extra": 1}]}, SECTIONS)[0].findings, index
    assert check.run({section: ["not an object"]}, SECTIONS)[0].findings


def test_changed_bytes_of_the_file_itself_are_seen() -> None:
    """Names, brackets and colons count as well: no byte of a compact file can be changed without notice."""
    first = {section: vectors[:1] for section, vectors in DOCUMENT.items() if section != "noise"}
    data = json.dumps(first, separators=(",", ":")).encode()
    assert passes(data)
    for at in range(0, len(data), 7):
        assert not passes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]), data[max(0, at - 40) : at + 10]


def passes(data: bytes) -> bool:
    try:
        return not any(result.findings for result in check.run(check.parse(data), SECTIONS))
    except DecodeError:
        return False


def test_unknown_section_is_an_error() -> None:
    with pytest.raises(DecodeError, match="unknown section hashes"):
        check.run({"hashes": [{}]}, SECTIONS)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b"\xff", b"[" * 100_000, b'{"keys":[{"a":1,"a":2}]}']
)
def test_what_is_no_vectors_file_is_an_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check.parse(data)


def test_vectors_file_is_bounded() -> None:
    with pytest.raises(DecodeError, match="at most"):
        check.parse(b" " * (check.MAX_FILE_SIZE + 1))
