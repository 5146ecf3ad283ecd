"""Failures as gRPC statuses and back: one table each way.

A failed call carries a gRPC code, the failure's one line, and `grpc-status-details-bin`: a google.rpc.Status with one
skywire.common.v1.ErrorDetail. docs/errors.md explains each code.
"""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError as ProtobufError
from google.rpc import status_pb2  # type: ignore[import-untyped]
from skywire.common.v1 import common_pb2

from skywire_common.convert.errors import error_detail, failure_from
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields

DETAILS_KEY = "grpc-status-details-bin"
# Three copies of it, one percent-encoded, must fit the 8 KiB that gRPC allows for metadata.
MAX_CAUSE_BYTES = 768

STATUS_OF: dict[ErrorCode, grpc.StatusCode] = {
    ErrorCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.CLOCK_SKEW: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.REPLAYED: grpc.StatusCode.UNAUTHENTICATED,
    ErrorCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_NODE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_TRANSPORT: grpc.StatusCode.NOT_FOUND,
    ErrorCode.NO_ROUTE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.ROUTE_TOO_LONG: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.NO_LOCAL_TRANSPORT: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.NO_SETUP_NODE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.CONFLICT: grpc.StatusCode.ABORTED,
    ErrorCode.DUPLICATE_IDENTITY: grpc.StatusCode.ALREADY_EXISTS,
    ErrorCode.LIMIT_REACHED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    ErrorCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.PORT_CLOSED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.BACKLOG_FULL: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.HANDSHAKE_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.ROUTE_LOST: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.LOOP_RESET: grpc.StatusCode.ABORTED,
    ErrorCode.LOOP_ENDED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.CLOSED: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.STOPPING: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.DISCOVERY_STALE: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.INTERNAL: grpc.StatusCode.INTERNAL,
    ErrorCode.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
}

# For answers without a detail: gRPC's own, or another implementation's.
_CODE_OF: dict[grpc.StatusCode, tuple[ErrorCode, bool]] = {
    grpc.StatusCode.CANCELLED: (ErrorCode.UNAVAILABLE, True),
    grpc.StatusCode.INVALID_ARGUMENT: (ErrorCode.INVALID_ARGUMENT, False),
    grpc.StatusCode.DEADLINE_EXCEEDED: (ErrorCode.DEADLINE, True),
    grpc.StatusCode.NOT_FOUND: (ErrorCode.NOT_FOUND, False),
    grpc.StatusCode.ALREADY_EXISTS: (ErrorCode.ALREADY_EXISTS, False),
    grpc.StatusCode.PERMISSION_DENIED: (ErrorCode.PERMISSION_DENIED, False),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (ErrorCode.LIMIT_REACHED, False),
    grpc.StatusCode.FAILED_PRECONDITION: (ErrorCode.CONFLICT, False),
    grpc.StatusCode.ABORTED: (ErrorCode.CONFLICT, True),
    grpc.StatusCode.OUT_OF_RANGE: (ErrorCode.INVALID_ARGUMENT, False),
    grpc.StatusCode.UNIMPLEMENTED: (ErrorCode.UNIMPLEMENTED, False),
    grpc.StatusCode.UNAVAILABLE: (ErrorCode.UNAVAILABLE, True),
    grpc.StatusCode.UNAUTHENTICATED: (ErrorCode.UNAUTHENTICATED, False),
}

# How gRPC begins when there is no peer to speak of.
_GRPC_UNREACHED = ("failed to connect to all addresses", "errors resolving ")
_GRPC_DEADLINE = "Deadline Exceeded"

Trailing = tuple[tuple[str, bytes], ...]


def to_status(failure: Failure) -> tuple[grpc.StatusCode, str, Trailing]:
    """Return code, message and trailing metadata of a failed call."""
    failure = Failure(failure.code, _bounded(failure.cause), failure.fields)
    code = STATUS_OF[failure.code]
    message = str(failure)
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(error_detail(failure))
    return code, message, ((DETAILS_KEY, status.SerializeToString()),)


def from_error(error: grpc.aio.AioRpcError, address: str = "") -> Failure:
    """Return the failure that a failed call to an address carries, or the nearest one if it carries none."""
    details = dict(error.trailing_metadata()).get(DETAILS_KEY)
    return from_status(error.code(), error.details() or "", details, address)


def from_status(code: grpc.StatusCode, message: str, details: str | bytes | None, address: str = "") -> Failure:
    """Read code, message and serialised google.rpc.Status back; whatever the peer sends, a Failure comes out.

    What gRPC says by itself of a peer that it does not reach is said in fewer words, with the peer's address.
    """
    if isinstance(details, bytes):
        try:
            for packed in status_pb2.Status.FromString(details).details:
                detail = common_pb2.ErrorDetail()
                if packed.Unpack(detail):
                    return failure_from(detail)
        except (ProtobufError, DecodeError):
            # A peer newer or worse than we know: its code and message still say enough.
            pass
    nearest, retryable = _CODE_OF.get(code, (ErrorCode.INTERNAL, False))
    return Failure(nearest, _in_words(message, address) or code.name, FailureFields(retryable=retryable))


def _in_words(message: str, address: str) -> str:
    if not address:
        return message
    if message == _GRPC_DEADLINE:
        return f"{address} has not answered in time"
    if message.startswith(_GRPC_UNREACHED):
        # Layers of prefixes, then the system's own words.
        return f"{address} cannot be reached: {message.rstrip(']').rpartition(': ')[2].rpartition('error:')[2]}"
    return message


def _bounded(cause: str) -> str:
    encoded = cause.encode("utf-8", "replace")
    if len(encoded) <= MAX_CAUSE_BYTES:
        return encoded.decode()
    return encoded[:MAX_CAUSE_BYTES].decode("utf-8", "ignore") + "…"
