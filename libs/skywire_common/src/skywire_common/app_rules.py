"""What an app may be called and which port it may have: nodes and whoever writes their configs must agree on it.

1 to 9           reserved: 1 chat, 2 SSH, 3 SOCKS proxy; only an app of that name may have one
10 to 49151      configured; bound while their app runs
49152 to 65535   given to dialling loops by the node
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from skywire_common.errors import ErrorCode, Failure

MAX_WORD = 64
FIRST_CONFIGURED = 10
FIRST_FREE = 49_152
RESERVED: Mapping[int, str] = {1: "chat", 2: "ssh", 3: "socksproxy"}
# Told to every app by its node, so that one program can be several apps.
NAME_VARIABLE = "SKYWIRE_APP_NAME"
VERSION_VARIABLE = "SKYWIRE_APP_VERSION"
# Whose node it is, as a public key: an app may want to say so before its first loop.
KEY_VARIABLE = "SKYWIRE_NODE_KEY"
# Of the node's environment an app sees these, and LC_*.
PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def is_word(text: str) -> bool:
    """Say whether a text may be an app's name or version: it becomes part of a path."""
    return _WORD.fullmatch(text) is not None and ".." not in text


def check_word(text: str) -> None:
    """Raise Failure for what cannot be an app's name or version."""
    if not is_word(text):
        said = f"{text[:MAX_WORD]!r} cannot be an app's name: letters, digits, '.', '_' and '-', at most {MAX_WORD}"
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"{said}, the first one a letter or digit")


def check_configured(port: int, app: str) -> None:
    """Check that a port may stand in an app's config; raises Failure."""
    if not 1 <= port < FIRST_FREE:
        raise Failure(
            ErrorCode.INVALID_ARGUMENT,
            f"app {app} cannot have port {port}: configured ports end at {FIRST_FREE - 1}, others are for dialling",
        )
    if port < FIRST_CONFIGURED and RESERVED.get(port) != app:
        kept = f"for {RESERVED[port]}" if port in RESERVED else "for apps to come"
        raise Failure(ErrorCode.INVALID_ARGUMENT, f"app {app} cannot have port {port}: it is reserved {kept}")
