"""Public keys where people name them: the key itself, or file:PATH of a file that holds it."""

from __future__ import annotations

from pathlib import Path

from skywire_common.keys import MAX_KEY_FILE

FROM_FILE = "file:"


def key_text(named: str) -> str:
    """Return the text itself, or what the file that it names holds, which the parser judges; raises OSError."""
    if not named.startswith(FROM_FILE):
        return named
    with Path(named.removeprefix(FROM_FILE)).open("rb") as file:
        text = file.read(MAX_KEY_FILE + 1).decode("ascii", "replace")
    return text.strip() if len(text) <= MAX_KEY_FILE else text  # too long for any key, and stays so
