"""Files that hold one short text: a key, a token. Whatever else somebody names instead is never read whole."""

from __future__ import annotations

from pathlib import Path


def read_short(path: Path, most: int) -> str:
    """Return the text of a file of up to `most` bytes without the blanks around it; what is not ASCII is replaced.

    Of a longer file it returns `most` + 1 characters, so that the parser refuses them. Raises OSError.
    """
    with path.open("rb") as file:
        text = file.read(most + 1).decode("ascii", "replace")
    return text.strip() if len(text) <= most else text
