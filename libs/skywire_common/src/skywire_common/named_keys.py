"""Public keys where people name them: the key itself, or file:PATH of a file that holds it."""

from __future__ import annotations

from pathlib import Path

from skywire_common.keys import MAX_KEY_FILE
from skywire_common.short_files import read_short

FROM_FILE = "file:"


def key_text(named: str) -> str:
    """Return the text itself, or what the file that it names holds, which the parser judges; raises OSError."""
    if not named.startswith(FROM_FILE):
        return named
    return read_short(Path(named.removeprefix(FROM_FILE)), MAX_KEY_FILE)
