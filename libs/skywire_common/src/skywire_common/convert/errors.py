"""skywire.common.v1.ErrorDetail and Failure."""

from __future__ import annotations

from skywire.common.v1 import common_pb2

from skywire_common.convert import fields
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PUBLIC_KEY_SIZE
from skywire_common.routes import MAX_HOPS

MAX_CAUSE = 4096
MAX_LIMIT_NAME = 64

_TO_PHASE: dict[Phase, common_pb2.Phase.ValueType] = {
    Phase.FIND: common_pb2.PHASE_FIND,
    Phase.RESERVE: common_pb2.PHASE_RESERVE,
    Phase.INSTALL: common_pb2.PHASE_INSTALL,
    Phase.CONFIRM: common_pb2.PHASE_CONFIRM,
}
_FROM_PHASE: dict[int, Phase] = {number: phase for phase, number in _TO_PHASE.items()}


def error_detail(failure: Failure) -> common_pb2.ErrorDetail:
    """Return the detail that travels with a failed call."""
    said = failure.fields
    return common_pb2.ErrorDetail(
        code=failure.code.value,
        phase=_TO_PHASE[said.phase] if said.phase else common_pb2.PHASE_UNSPECIFIED,
        hop_index=said.hop_index,
        hop_key=said.hop_key,
        transport_id=said.transport_id,
        cause=failure.cause,
        setup_id=said.setup_id,
        retryable=said.retryable,
        limit=said.limit,
        server_time_ms=said.server_time_ms,
    )


def failure_from(detail: common_pb2.ErrorDetail) -> Failure:
    """Return the failure that a detail describes; raises DecodeError."""
    if detail.code not in ErrorCode.__members__:
        raise DecodeError(f"code: no such error code {detail.code[:40]!r}")
    if detail.phase and detail.phase not in _FROM_PHASE:
        raise DecodeError(f"phase: no such phase {detail.phase}")
    hop_index = detail.hop_index if detail.HasField("hop_index") else None
    said = FailureFields(
        phase=_FROM_PHASE.get(detail.phase),
        hop_index=None if hop_index is None else fields.within(hop_index, 0, MAX_HOPS, "hop_index"),
        hop_key=_absent_or(detail.hop_key, PUBLIC_KEY_SIZE, "hop_key"),
        transport_id=_absent_or(detail.transport_id, fields.ID_SIZE, "transport_id"),
        setup_id=_absent_or(detail.setup_id, fields.ID_SIZE, "setup_id"),
        retryable=detail.retryable,
        limit=fields.text(detail.limit, MAX_LIMIT_NAME, "limit"),
        server_time_ms=fields.within(detail.server_time_ms, 0, fields.MAX_TIME, "server_time_ms"),
    )
    return Failure(ErrorCode[detail.code], fields.text(detail.cause, MAX_CAUSE, "cause"), said)


def _absent_or(raw: bytes, size: int, name: str) -> bytes:
    if len(raw) not in (0, size):
        raise DecodeError(f"{name} has {size} bytes or none, not {len(raw)}")
    return raw
