"""A token that lets its bearer call: where no unix socket leads, for the owner of a service (control-plane.md, Trust).

The file holds one line of MIN_TOKEN to MAX_TOKEN printable characters without blanks, and is private (private_files).
A call carries it in its metadata, `authorization: Bearer TOKEN`. Whoever sees it on its way has it: it goes over TLS,
or stays on this machine.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from skywire_common.errors import LocalError
from skywire_common.private_files import check_private

METADATA_KEY = "authorization"
MIN_TOKEN, MAX_TOKEN = 32, 256
_TOKEN = re.compile(rf"[!-~]{{{MIN_TOKEN},{MAX_TOKEN}}}", re.ASCII)
_RANDOM_SIZE = 32


def make() -> str:
    """Draw a token of 256 random bits."""
    return secrets.token_urlsafe(_RANDOM_SIZE)


def load(path: Path) -> str:
    """Read a token; raises LocalError if others may read the file or it holds none, OSError if there is none."""
    check_private(path)
    with path.open("rb") as file:
        # Whatever the file holds instead is not repeated: it may be another secret.
        text = file.read(MAX_TOKEN + 2).decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise LocalError(f"{path}: a token is {MIN_TOKEN} to {MAX_TOKEN} printable characters without blanks")
    return text


def metadata(token: str) -> tuple[tuple[str, str], ...]:
    """Return what a call carries."""
    return ((METADATA_KEY, f"Bearer {token}"),)


def bears(values: Iterable[str | bytes], token: str) -> bool:
    """Say whether a call's metadata holds the token, once; how long that takes says nothing of it."""
    found = [value.encode("utf-8", "replace") if isinstance(value, str) else value for value in values]
    return len(found) == 1 and hmac.compare_digest(found[0], f"Bearer {token}".encode())
