"""Logs are JSON, hold nothing secret, and change their level while running."""

from __future__ import annotations

import json
import logging as standard
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.runtime import logging

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines logged so far in this test."""
    stream = BytesIO()
    before, handlers, level = structlog.get_config(), standard.getLogger().handlers, standard.getLogger().level
    logging.configure("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.configure(**before)
    standard.getLogger().handlers = handlers
    standard.getLogger().setLevel(level)


@dataclass
class Record:
    raw: bytes
    token: str


class Row(NamedTuple):
    raw: bytes


class Part(BaseModel):
    token: str
    raw: bytes


def test_a_line_says_who_when_what(lines: Lines) -> None:
    logging.get_logger("router", node="abc").warning("dropped", reason="no rule", count=3)
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "part": "router",
        "node": "abc",
        "event": "dropped",
        "level": "warning",
        "reason": "no rule",
        "count": 3,
    }


def test_secrets_are_never_shown(lines: Lines, secret: SecretKey) -> None:
    raw, hexed = secret.to_bytes(), secret.to_bytes().hex()
    logging.get_logger("test").info(
        "all of it",
        key=secret,
        raw=raw,
        view=memoryview(raw),
        array=bytearray(raw),
        secret_key=hexed,
        Token=hexed,
        nested={"password": hexed, "inner": [{"signature": hexed, "keys": [secret, raw]}]},
        keys=(secret,),
        by_key={raw: 1},
        record=Record(raw, hexed),
        section=Part(token=hexed, raw=raw),
        row=Row(raw),
    )
    (line,) = lines()
    text = json.dumps(line)
    assert hexed not in text
    assert repr(raw)[2:-1] not in text
    assert line["key"] == "SecretKey(…)"
    assert line["raw"] == line["view"] == line["array"] == "(32 bytes)"
    assert line["record"] == {"raw": "(32 bytes)", "token": "(hidden)"}
    assert line["row"] == ["(32 bytes)"]
    assert line["secret_key"] == line["Token"] == line["nested"]["password"] == "(hidden)"
    assert line["nested"]["inner"][0]["keys"] == ["SecretKey(…)", "(32 bytes)"]


def test_values_of_ours_are_readable(lines: Lines, secret: SecretKey) -> None:
    logging.get_logger("test").info(
        "values",
        node=secret.public,
        remote=Addr(secret.public, 7),
        transport=UUID(int=1),
        failure=Failure(ErrorCode.NO_ROUTE, "none"),
        error=ValueError("bad"),
        some={2, 1},
        code=ErrorCode.CLOSED,
    )
    (line,) = lines()
    assert line["node"] == secret.public.hex()
    assert line["remote"] == f"{secret.public.hex()}:7"
    assert line["transport"] == str(UUID(int=1))
    assert line["failure"] == "NO_ROUTE: none"
    assert line["error"] == "ValueError: bad"
    assert line["some"] == ["1", "2"]
    assert line["code"] == "CLOSED"


def test_the_level_changes_while_running_for_loggers_that_exist(lines: Lines) -> None:
    log = logging.get_logger("test")
    log.debug("one")
    logging.set_level("debug")
    log.debug("two")
    logging.set_level("error")
    log.warning("three")
    log.error("four")
    assert [line["event"] for line in lines()] == ["two", "four"]
    assert logging.current_level() == "error"


def test_another_level_is_refused(lines: Lines) -> None:
    with pytest.raises(DecodeError, match="debug, info, warning, error"):
        logging.set_level("loud")
    assert logging.current_level() == "info"


def test_an_exception_is_told_with_its_traceback(lines: Lines) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        logging.get_logger("test").exception("failed")
    (line,) = lines()
    assert "Traceback" in line["exception"]
    assert "KeyError" in line["exception"]


def test_libraries_log_the_same_way(lines: Lines) -> None:
    standard.getLogger("asyncio").warning("slow %s", "callback")
    standard.getLogger("asyncio").debug("inside")
    standard.getLogger("odd").log(35, "between")
    one, two = lines()
    assert (one["part"], one["level"], one["event"]) == ("asyncio", "warning", "slow callback")
    assert (two["part"], two["level"]) == ("odd", "warning")


def test_the_debug_lines_of_libraries_stay_out(lines: Lines) -> None:
    logging.set_level("debug")
    standard.getLogger("library").debug("what it carries")
    assert lines() == []


def test_the_depth_of_a_line_is_bounded(lines: Lines) -> None:
    round_: list[Any] = []
    round_.append({"again": round_})
    logging.get_logger("test").info("round", value=round_)
    (line,) = lines()
    assert "(deeper)" in json.dumps(line["value"])


class _Full(BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_breaks_nobody(lines: Lines) -> None:
    logging.configure("info", _Full())
    logging.get_logger("test").info("lost")


odd_values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(alphabet=st.characters(categories=["Cs"]), max_size=3)
    | st.binary()
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.binary(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(value=odd_values, name=st.text(max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_can_be_logged(lines: Lines, value: Any, name: str) -> None:
    before = len(lines())
    logging.get_logger("test").info("odd", value=value, **{f"k{name}": value})
    assert len(lines()) == before + 1
