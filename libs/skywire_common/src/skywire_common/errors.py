"""The exception tree: the type says whose fault it is, and so what dies of it.

    SkywireError
    ├── DecodeError      bytes that no valid peer sends: the packet, frame or request is refused
    ├── LocalError       the caller used the interface wrongly: a bug on this side
    ├── LinkError        a link's stream cannot go on: the link ends, its transport is dialled again
    ├── LoopError        a loop cannot go on: the loop closes with the reason, nothing else does
    └── Failure          an operation failed, and says which hop, which phase, why

Anything else that is raised is a bug, and loud.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum


class SkywireError(Exception):
    """Root of every error that this project raises on purpose."""


class DecodeError(SkywireError):
    """The bytes are not what they claim to be."""


class LocalError(SkywireError):
    """The caller asked for something that the interface forbids."""


class LinkError(SkywireError):
    """The link's stream is broken; only this link ends."""


class LoopError(SkywireError):
    """The loop is broken; only this loop ends."""


class ErrorCode(StrEnum):
    """What went wrong. Append only: the names travel in gRPC details and in the text that apps get."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    CLOCK_SKEW = "CLOCK_SKEW"
    REPLAYED = "REPLAYED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    NOT_FOUND = "NOT_FOUND"
    UNKNOWN_NODE = "UNKNOWN_NODE"
    UNKNOWN_TRANSPORT = "UNKNOWN_TRANSPORT"
    NO_ROUTE = "NO_ROUTE"
    ROUTE_TOO_LONG = "ROUTE_TOO_LONG"
    NO_LOCAL_TRANSPORT = "NO_LOCAL_TRANSPORT"
    NO_SETUP_NODE = "NO_SETUP_NODE"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    CONFLICT = "CONFLICT"
    DUPLICATE_IDENTITY = "DUPLICATE_IDENTITY"
    LIMIT_REACHED = "LIMIT_REACHED"
    DEADLINE = "DEADLINE"
    UNAVAILABLE = "UNAVAILABLE"
    PORT_CLOSED = "PORT_CLOSED"
    BACKLOG_FULL = "BACKLOG_FULL"
    HANDSHAKE_FAILED = "HANDSHAKE_FAILED"
    ROUTE_LOST = "ROUTE_LOST"
    LOOP_RESET = "LOOP_RESET"
    CLOSED = "CLOSED"
    STOPPING = "STOPPING"
    DISCOVERY_STALE = "DISCOVERY_STALE"
    INTERNAL = "INTERNAL"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    LOOP_ENDED = "LOOP_ENDED"


class Phase(StrEnum):
    """Which part of a set-up failed."""

    FIND = "find"
    RESERVE = "reserve"
    INSTALL = "install"
    CONFIRM = "confirm"


@dataclass(frozen=True, kw_only=True)
class FailureFields:
    """What a failure says beside its code and cause; None or empty where it does not apply.

    hop_index counts nodes from the initiator (0). hop_key is 33 bytes, transport_id and setup_id 16 bytes.
    limit names the bound that was reached. server_time_ms is epoch milliseconds.
    """

    phase: Phase | None = None
    hop_index: int | None = None
    hop_key: bytes = b""
    transport_id: bytes = b""
    setup_id: bytes = b""
    retryable: bool = False
    limit: str = ""
    server_time_ms: int = 0


_TEXT = re.compile(r"^(?P<code>[A-Z_]+): (?P<cause>.*?)(?: \[(?P<fields>[^\[\]]*)\])?$", re.DOTALL)


class Failure(SkywireError):
    """An operation failed: code, cause for people, and where.

    `str()` is one line that `parse` reads back: `NO_ROUTE: no path [phase=find retryable=yes]`.
    """

    def __init__(self, code: ErrorCode, cause: str, fields: FailureFields | None = None) -> None:
        super().__init__(code, cause, fields)
        self.code = code
        self.cause = cause
        self.fields = fields or FailureFields()

    def within(self, **changes: object) -> Failure:
        """Return the same failure with more said about where it happened."""
        return Failure(self.code, self.cause, replace(self.fields, **changes))  # type: ignore[arg-type]

    def __str__(self) -> str:
        fields = self.fields
        said = [
            ("phase", fields.phase.value if fields.phase else ""),
            ("hop", "" if fields.hop_index is None else str(fields.hop_index)),
            ("node", fields.hop_key.hex()),
            ("transport", fields.transport_id.hex()),
            ("setup", fields.setup_id.hex()),
            ("limit", fields.limit),
            ("retryable", "yes" if fields.retryable else ""),
        ]
        inner = " ".join(f"{name}={value}" for name, value in said if value)
        return f"{self.code.value}: {self.cause}" + (f" [{inner}]" if inner else "")

    @classmethod
    def parse(cls, text: str, otherwise: ErrorCode = ErrorCode.INTERNAL) -> Failure:
        """Read the one-line form back; any other text becomes the cause of a failure of the code `otherwise`."""
        match = _TEXT.match(text)
        if match is None or match["code"] not in ErrorCode.__members__:
            return cls(otherwise, text)
        said = dict(part.split("=", 1) for part in (match["fields"] or "").split() if "=" in part)
        try:
            fields = FailureFields(
                phase=Phase(said["phase"]) if "phase" in said else None,
                hop_index=int(said["hop"]) if "hop" in said else None,
                hop_key=bytes.fromhex(said.get("node", "")),
                transport_id=bytes.fromhex(said.get("transport", "")),
                setup_id=bytes.fromhex(said.get("setup", "")),
                limit=said.get("limit", ""),
                retryable=said.get("retryable") == "yes",
            )
        except ValueError:
            return cls(ErrorCode[match["code"]], text)
        return cls(ErrorCode[match["code"]], match["cause"], fields)
