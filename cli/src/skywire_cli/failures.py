"""How the command ends: exit codes, and errors that say what to do next.

With `--json` an error is one line on standard error: `{"code", "message", "hint", "details"}`. The exit code follows
from the code alone, by the one table below, whichever command it was (docs/errors.md shows it to users).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import IntEnum

from skywire_common import disk
from skywire_common.errors import DecodeError, ErrorCode, Failure, LocalError, SkywireError


class Exit(IntEnum):
    """Exit codes of the command, by the kind of failure; scripts rely on them: append only."""

    OK = 0
    CHECK_FAILED = 1  # what was asked about is not so
    USAGE = 2  # the command line or its input is wrong
    NOT_RUNNING = 3  # whoever has to be asked does not run
    NOT_READY = 4  # it runs, and is not ready
    REFUSED = 5  # it refused or failed
    TIMEOUT = 6  # no answer in time
    NOT_FOUND = 7  # what was named is not there
    CONFLICT = 8  # it contradicts what is there
    MACHINE = 9  # this machine refused: a file, a permission, the disk
    INTERRUPTED = 130


_CODES: Mapping[Exit, tuple[str, ...]] = {
    Exit.CHECK_FAILED: ("APP_FAILED", "CONFIG", "DEMO_FAILED", "NO_REPORT", "NO_SETUP"),
    Exit.USAGE: ("USAGE", "INVALID_INPUT", "INVALID_NAME", "REFUSED", ErrorCode.INVALID_ARGUMENT),
    Exit.NOT_RUNNING: (
        "NO_DISCOVERY",
        "NO_LOG",
        "NO_TESTNET",
        "NOT_RUNNING",
        ErrorCode.DISCOVERY_STALE,
        ErrorCode.NO_SETUP_NODE,
        ErrorCode.UNAVAILABLE,
    ),
    Exit.NOT_READY: (
        "NOT_CONNECTED",
        "NOT_READY",
        "START_FAILED",
        # Words of grpc.health.v1.
        "NOT_SERVING",
        "SERVICE_UNKNOWN",
        "UNKNOWN",
        ErrorCode.STOPPING,
    ),
    Exit.REFUSED: (
        "SERVICE_FAILED",
        ErrorCode.BACKLOG_FULL,
        ErrorCode.CLOCK_SKEW,
        ErrorCode.CLOSED,
        ErrorCode.HANDSHAKE_FAILED,
        ErrorCode.INTERNAL,
        ErrorCode.LIMIT_REACHED,
        ErrorCode.LOOP_ENDED,
        ErrorCode.LOOP_RESET,
        ErrorCode.NO_LOCAL_TRANSPORT,
        ErrorCode.PERMISSION_DENIED,
        ErrorCode.PORT_CLOSED,
        ErrorCode.REPLAYED,
        ErrorCode.ROUTE_LOST,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.UNIMPLEMENTED,
    ),
    Exit.TIMEOUT: (ErrorCode.DEADLINE,),
    Exit.NOT_FOUND: (
        "NOT_INSTALLED",
        ErrorCode.NO_ROUTE,
        ErrorCode.NOT_FOUND,
        ErrorCode.ROUTE_TOO_LONG,
        ErrorCode.UNKNOWN_NODE,
        ErrorCode.UNKNOWN_TRANSPORT,
    ),
    Exit.CONFLICT: (
        "ALREADY_RUNNING",
        "NOT_EMPTY",
        ErrorCode.ALREADY_EXISTS,
        ErrorCode.CONFLICT,
        ErrorCode.DUPLICATE_IDENTITY,
    ),
    Exit.MACHINE: ("FILE", "NO_SPACE"),
    Exit.INTERRUPTED: ("INTERRUPTED",),
}
# The one table: an error's code, and the exit code that it ends in.
EXIT_OF: Mapping[str, Exit] = {str(code): status for status, codes in _CODES.items() for code in codes}

_HINT_OF_CODE: Mapping[ErrorCode, str] = {
    ErrorCode.UNAVAILABLE: "is it running, is that its address, and may it be reached from here?",
    ErrorCode.STOPPING: "it is shutting down",
    ErrorCode.DEADLINE: "it may be busy or frozen: look at its log",
    ErrorCode.NO_ROUTE: "`skywire node transports` shows what is connected",
    ErrorCode.UNAUTHENTICATED: "check the clocks and the public key of the service in the config",
}
_MAKE_ROOM = "its disk is full: free some room where it keeps its files, it goes on by itself then"


class CliError(Exception):
    """An error as the user sees it. `code` is for programs and decides on the exit code; `hint` says what to try."""

    def __init__(self, code: str, message: str, hint: str = "", details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        if code not in EXIT_OF:
            raise LocalError(f"no exit code is given to {code}")
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    @property
    def status(self) -> Exit:
        """The exit code."""
        return EXIT_OF[self.code]

    def document(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


def explain(error: SkywireError | OSError) -> CliError:
    """Turn an expected exception into what the user sees."""
    if isinstance(error, Failure) and error.fields.limit == disk.LIMIT:
        return CliError("NO_SPACE", error.cause, _MAKE_ROOM, _details(error))
    if isinstance(error, Failure):
        return CliError(error.code.value, error.cause, _HINT_OF_CODE.get(error.code, ""), _details(error))
    if isinstance(error, OSError):
        said = os.strerror(error.errno) if error.errno else str(error)
        named = f"{error.filename}: {said}" if error.filename else said
        return CliError("NO_SPACE" if error.errno in disk.NO_ROOM else "FILE", named)
    return CliError("INVALID_INPUT" if isinstance(error, DecodeError) else "REFUSED", str(error))


def _details(failure: Failure) -> dict[str, object]:
    fields = failure.fields
    said: dict[str, object] = {
        "phase": fields.phase.value if fields.phase else "",
        "node": fields.hop_key.hex(),
        "transport": fields.transport_id.hex(),
        "setup": fields.setup_id.hex(),
        "limit": fields.limit,
    }
    details = {name: value for name, value in said.items() if value}
    if fields.hop_index is not None:
        details["hop"] = fields.hop_index
    if fields.retryable:
        details["retryable"] = True
    return details
