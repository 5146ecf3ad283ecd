"""What a database that is away looks like to callers: Failure UNAVAILABLE. Whatever else SQL raises is a bug."""

from __future__ import annotations

from skywire_common import disk
from skywire_common.errors import ErrorCode, Failure, FailureFields
from sqlalchemy import exc

# PostgreSQL's own cure for a deadlock or a lost race is to try again.
ATTEMPTS = 3
_TRY_AGAIN = ("40P01", "40001")
# A role that may not: the operator mends it, like a database that is away. (For the driver the statement is wrong.)
_MAY_NOT = "42501"


def try_again(error: exc.DBAPIError, attempt: int) -> bool:
    """Say whether the transaction that failed in its n-th attempt should be run once more."""
    return attempt < ATTEMPTS and getattr(error.orig, "sqlstate", None) in _TRY_AGAIN


def translate(error: exc.DBAPIError) -> Failure | exc.DBAPIError:
    """Return the Failure of a database that is away or overloaded, and any other error, a bug, as it is."""
    away = isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    away = away or getattr(error.orig, "sqlstate", None) == _MAY_NOT
    return unavailable(error) if away or error.connection_invalidated else error


def unavailable(error: Exception) -> Failure:
    """Return the failure that tells the first line of an error."""
    said = getattr(error, "orig", None) or error
    first_line = (str(said).strip() or type(said).__name__).splitlines()[0]
    fields = FailureFields(retryable=True, limit=disk.limit_of(error))
    return Failure(ErrorCode.UNAVAILABLE, f"the database: {first_line}", fields)
