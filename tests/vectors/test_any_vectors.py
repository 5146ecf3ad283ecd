"""Any bytes, and any values in the places of a vector: a result or a DecodeError, never anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from skywire_common.errors import DecodeError
from skywire_common.vectors import check
from skywire_common.vectors.sections import SECTIONS

GOLDEN = json.loads(Path(__file__).with_name("skywire-2019.json").read_text())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text() | st.binary().map(bytes.hex),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def fields(section: str) -> st.SearchStrategy[Any]:
    """Return vectors of a section some of whose fields hold anything."""
    vector = st.sampled_from(GOLDEN[section])
    names = st.sets(st.sampled_from(sorted(GOLDEN[section][0])))
    return st.tuples(vector, names, st.data()).map(
        lambda drawn: {**drawn[0], **{n: drawn[2].draw(ANYTHING) for n in drawn[1]}}
    )


@given(st.binary(max_size=200) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_file_or_a_decode_error(data: bytes) -> None:
    try:
        check.run(check.parse(data), SECTIONS)
    except DecodeError:
        pass


@settings(deadline=None)
@given(st.sampled_from(sorted(GOLDEN)).flatmap(lambda name: st.tuples(st.just(name), fields(name) | ANYTHING)))
def test_any_vector_has_a_result(drawn: tuple[str, Any]) -> None:
    section, vector = drawn
    (result,) = check.run({section: [vector]}, SECTIONS)
    assert result.checked == 1
    # As JSON: to Python false is 0, to a vector it is not.
    golden = {json.dumps(one, sort_keys=True) for one in GOLDEN[section]}
    assert bool(result.findings) == (json.dumps(vector, sort_keys=True) not in golden)
