"""A token that lets its bearer call: for an owner on another machine (docs/operating.md, From elsewhere).

The file holds one line of MIN_TOKEN to MAX_TOKEN printable characters without blanks, and is private (private_files).
A call carries it in its metadata, `authorization: Bearer TOKEN`. Whoever sees it on its way has it: it goes over TLS,
or stays on this machine.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from skywire_common.errors import LocalError
from skywire_common.private_files import check_private, mark_of
from skywire_common.short_files import read_short

METADATA_KEY = "authorization"
MIN_TOKEN, MAX_TOKEN = 32, 256
_TOKEN = re.compile(rf"[!-~]{{{MIN_TOKEN},{MAX_TOKEN}}}", re.ASCII)
_RANDOM_SIZE = 32
_LINE_END = 2  # bytes, as some editors end a line
# A changed file is noticed after so many seconds at most.
CHECK_S = 1.0


def make() -> str:
    """Draw a token of 256 random bits."""
    return secrets.token_urlsafe(_RANDOM_SIZE)


def load(path: Path) -> str:
    """Read a token; raises LocalError if others may read the file or it holds none, OSError if there is none."""
    check_private(path)
    # Whatever the file holds instead is not repeated: it may be another secret.
    if not _TOKEN.fullmatch(text := read_short(path, MAX_TOKEN + _LINE_END)):
        raise LocalError(f"{path}: a token is {MIN_TOKEN} to {MAX_TOKEN} printable characters without blanks")
    return text


class TokenFile:
    """The token that its file holds now: looked at when it is asked for, at most once in CHECK_S.

    A file that is gone or cannot be used lets nobody in, unlike a certificate, of which the former stays in force: to
    take a token back is to remove it.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file; raises LocalError or OSError."""
        self._path = path
        self._clock = clock
        self._mark = mark_of(path)
        self._looked = clock()
        self._token = load(path)

    def __repr__(self) -> str:
        return f"TokenFile({self._path})"

    def current(self) -> str:
        """Return the token, empty if there is none."""
        now = self._clock()
        if now - self._looked >= CHECK_S:
            self._looked = now
            mark = mark_of(self._path)
            if mark != self._mark:
                self._mark = mark
                self._read_anew()
        return self._token

    def _read_anew(self) -> None:
        # What a command line needs of this module needs no logging.
        import structlog

        log = structlog.get_logger(part="token", file=str(self._path))
        try:
            self._token = load(self._path)
        except (LocalError, OSError) as error:
            self._token = ""
            log.error("the token cannot be used: nobody gets in", reason=str(error))
        else:
            log.info("token read anew")


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Return what a call carries."""
    return ((METADATA_KEY, f"Bearer {token}"),)


def bears(values: Iterable[str | bytes], token: str) -> bool:
    """Say whether a call's metadata holds the token, once; how long it takes says nothing of it; nobody bears ""."""
    found = [value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values]
    return bool(token) and len(found) == 1 and hmac.compare_digest(found[0], f"Bearer {token}".encode())
