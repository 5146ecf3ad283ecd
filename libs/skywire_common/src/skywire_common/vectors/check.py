"""Run a vectors file: one check per section, one line of result each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from skywire_common.errors import DecodeError, SkywireError
from skywire_common.vectors.fields import Difference, Fields

MAX_FILE_SIZE = 64 << 20

Check = Callable[[Fields], None]


class Finding(NamedTuple):
    """What differs in one vector; `vector` counts from 0 in its section."""

    vector: int
    difference: Difference


class SectionResult(NamedTuple):
    """How many vectors of a section were checked, and every difference."""

    section: str
    checked: int
    findings: tuple[Finding, ...]

    @property
    def differing(self) -> int:
        """Return how many vectors differ."""
        return len({finding.vector for finding in self.findings})


def parse(data: bytes) -> dict[str, list[object]]:
    """Read a vectors file: an object of lists; raises DecodeError, also for a name that stands twice."""
    if len(data) > MAX_FILE_SIZE:
        raise DecodeError(f"a vectors file has at most {MAX_FILE_SIZE} bytes; this one has more")
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a vectors file is JSON: {error}") from error
    if not isinstance(document, dict) or not document:
        raise DecodeError("a vectors file is a JSON object with a list for each section")
    for name, vectors in document.items():
        if not isinstance(vectors, list) or not vectors:
            raise DecodeError(f"section {name!r} is a list of vectors, not empty")
    return document


def run(document: Mapping[str, list[object]], sections: Mapping[str, Check]) -> list[SectionResult]:
    """Check each section in the file's order; raises DecodeError for a section that nobody knows."""
    unknown = [name for name in document if name not in sections]
    if unknown:
        raise DecodeError(f"unknown section {', '.join(unknown)}; known are {', '.join(sections)}")
    return [_run_section(name, vectors, sections[name]) for name, vectors in document.items()]


def _run_section(name: str, vectors: list[object], check: Check) -> SectionResult:
    findings = tuple(
        Finding(index, difference) for index, vector in enumerate(vectors) for difference in _run_vector(vector, check)
    )
    return SectionResult(name, len(vectors), findings)


def _run_vector(vector: object, check: Check) -> list[Difference]:
    """A vector that this code refuses is one that differs, whatever the reason."""
    try:
        fields = Fields(vector)
    except DecodeError as error:
        return [Difference("", "", str(error))]
    try:
        check(fields)
    except SkywireError as error:
        return [*fields.refused(), Difference("", "a valid vector", str(error))]
    return fields.differences()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DecodeError("a name stands twice in one object of the file")
    return found
