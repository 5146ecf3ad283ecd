"""What a word that names nothing may have meant: the nearest one, and which there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_NAMED = 30


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the word that is most like another one; "" if none is like it."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


def named(word: str, known: Iterable[str], what: str) -> str:
    """Return a hint: the nearest word, if one is near, and the first MAX_NAMED of all; `what` is their plural."""
    words = list(known)
    if not words:
        return f"it has no {what}"
    close = nearest(word, words)
    shown = ", ".join(words[:MAX_NAMED]) + (", …" if len(words) > MAX_NAMED else "")
    return (f"the nearest is {close}; " if close else "") + f"its {what}: {shown}"
