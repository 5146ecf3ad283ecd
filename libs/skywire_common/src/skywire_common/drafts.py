"""Files that are there whole or not at all: made under another name beside their own, and put in place when done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_place_of(path: Path) -> Iterator[Path]:
    """Yield where to make what takes the place of a file or link when the block ends without an error.

    Raises OSError if it cannot take it; whatever is raised, what was there stands and the draft is gone. Of two
    processes that do so at once, the last one's stands.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # One killed in the middle may have had the same number.
    draft.unlink(missing_ok=True)
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
