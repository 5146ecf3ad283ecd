"""How the command ends: exit codes, and errors that say what to do next.

    0  done                       4  the service runs but is not ready
    1  a check did not hold       5  the service refused or failed
    2  wrong usage or input       6  no answer in time
    3  the service does not run   130  interrupted

With `--json` an error is one line on standard error: `{"code", "message", "hint", "details"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from skywire_common.errors import DecodeError, ErrorCode, Failure, SkywireError


class Exit(IntEnum):
    """Exit codes of the command; scripts rely on them."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    NOT_READY = 4
    REMOTE = 5
    TIMEOUT = 6
    INTERRUPTED = 130


_EXIT_OF_CODE: Mapping[ErrorCode, Exit] = {
    ErrorCode.UNAVAILABLE: Exit.NOT_RUNNING,
    ErrorCode.STOPPING: Exit.NOT_READY,
    ErrorCode.DEADLINE: Exit.TIMEOUT,
}
_HINT_OF_CODE: Mapping[ErrorCode, str] = {
    ErrorCode.UNAVAILABLE: "is it running? `skywire testnet status` shows what is",
    ErrorCode.STOPPING: "it is shutting down",
    ErrorCode.DEADLINE: "it may be busy or frozen: look at its log",
    ErrorCode.NO_ROUTE: "`skywire node transports` shows what is connected",
    ErrorCode.UNAUTHENTICATED: "check the clocks and the public key of the service in the config",
}


class CliError(Exception):
    """An error as the user sees it. `code` is for programs, `hint` says what to try."""

    def __init__(
        self, status: Exit, code: str, message: str, hint: str = "", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def document(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


def explain(error: SkywireError | OSError) -> CliError:
    """Turn an expected exception into what the user sees."""
    if isinstance(error, Failure):
        status = _EXIT_OF_CODE.get(error.code, Exit.REMOTE)
        return CliError(status, error.code.value, error.cause, _HINT_OF_CODE.get(error.code, ""), _details(error))
    if isinstance(error, OSError):
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return CliError(Exit.USAGE, "FILE", named)
    return CliError(Exit.USAGE, "INVALID_INPUT" if isinstance(error, DecodeError) else "REFUSED", str(error))


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
