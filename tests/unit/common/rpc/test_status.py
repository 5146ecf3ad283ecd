"""Failures cross gRPC and come back whole; whatever a peer sends, a Failure comes out."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.rpc.status import DETAILS_KEY, MAX_CAUSE_BYTES, STATUS_OF, from_status, to_status

METADATA_LIMIT = 8192
DOCUMENTATION = Path(__file__).parents[4] / "docs" / "errors.md"

fields = st.builds(
    FailureFields,
    phase=st.none() | st.sampled_from(Phase),
    hop_index=st.none() | st.integers(0, 32),
    hop_key=st.just(b"") | st.binary(min_size=33, max_size=33),
    transport_id=st.just(b"") | st.binary(min_size=16, max_size=16),
    setup_id=st.just(b"") | st.binary(min_size=16, max_size=16),
    retryable=st.booleans(),
    limit=st.text(max_size=64),
    server_time_ms=st.integers(0, (1 << 63) - 1),
)


def test_every_code_has_a_status() -> None:
    assert set(STATUS_OF) == set(ErrorCode)
    assert grpc.StatusCode.OK not in STATUS_OF.values()


def test_the_documentation_has_every_code_with_its_status() -> None:
    told = dict(
        re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| .+ \| .+ \| .+ \|$", DOCUMENTATION.read_text(), re.MULTILINE)
    )
    assert told == {code.value: status.name for code, status in STATUS_OF.items()}


@given(st.builds(Failure, st.sampled_from(ErrorCode), st.text(max_size=MAX_CAUSE_BYTES // 4), fields))
def test_a_failure_comes_back_whole(failure: Failure) -> None:
    code, message, trailing = to_status(failure)
    back = from_status(code, message, dict(trailing)[DETAILS_KEY])
    assert (back.code, back.cause, back.fields) == (failure.code, failure.cause, failure.fields)


@given(st.sampled_from(ErrorCode), st.text(alphabet=st.characters(), max_size=5_000))
def test_the_metadata_of_a_failure_is_bounded(code: ErrorCode, cause: str) -> None:
    _, message, trailing = to_status(Failure(code, cause * 4))
    percent_encoded = 3 * len(message.encode())
    base64 = 4 * len(trailing[0][1]) // 3 + 4
    assert percent_encoded + base64 < METADATA_LIMIT


@given(st.sampled_from(list(grpc.StatusCode)), st.text(max_size=100), st.none() | st.text() | st.binary(max_size=300))
def test_any_details_become_a_failure(code: grpc.StatusCode, message: str, details: str | bytes | None) -> None:
    failure = from_status(code, message, details)
    assert isinstance(failure, Failure)
    assert str(failure)


def test_without_a_detail_the_nearest_code_is_taken() -> None:
    away = from_status(grpc.StatusCode.UNAVAILABLE, "connection refused", None)
    assert (away.code, away.cause, away.fields.retryable) == (ErrorCode.UNAVAILABLE, "connection refused", True)
    late = from_status(grpc.StatusCode.DEADLINE_EXCEEDED, "", None)
    assert (late.code, late.cause) == (ErrorCode.DEADLINE, "DEADLINE_EXCEEDED")
    assert from_status(grpc.StatusCode.UNKNOWN, "x", None).code is ErrorCode.INTERNAL


def test_a_detail_of_another_type_is_passed_over() -> None:
    status = status_pb2.Status(code=5, message="gone")
    status.details.add().Pack(status_pb2.Status(code=3))
    failure = from_status(grpc.StatusCode.NOT_FOUND, "gone", status.SerializeToString())
    assert (failure.code, failure.cause) == (ErrorCode.NOT_FOUND, "gone")


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote "
            "host: Connection refused",
            "127.0.0.1:1 cannot be reached: Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: FAILED_PRECONDITION: unix:/a: connect failed: addr: "
            "unix:/a error: No such file or directory",
            "127.0.0.1:1 cannot be reached: No such file or directory",
        ),
        (
            "errors resolving x:1: [field:hostname lookup error:address lookup failed for x:1: Domain name not found]",
            "127.0.0.1:1 cannot be reached: Domain name not found",
        ),
        ("Deadline Exceeded", "127.0.0.1:1 has not answered in time"),
        ("something else", "something else"),
    ],
)
def test_what_grpc_says_by_itself_is_said_in_words(message: str, cause: str) -> None:
    assert from_status(grpc.StatusCode.UNAVAILABLE, message, None, "127.0.0.1:1").cause == cause
