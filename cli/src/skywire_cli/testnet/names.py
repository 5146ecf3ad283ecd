"""How people name a node of a testnet, in every command: by its number or by the name that is printed, 2 or node2."""

from __future__ import annotations

import re

# Of a number; a longer row of digits is a key.
MAX_DIGITS = 5
_NODE = re.compile(rf"(?:node)?([0-9]{{1,{MAX_DIGITS}}})", re.ASCII)


def node_name(number: int) -> str:
    """Return the name of a node, from its number, which counts from 1."""
    return f"node{number}"


def node_number(text: str) -> int | None:
    """Return the number that a text names a node by; None if it is no such name."""
    match = _NODE.fullmatch(text)
    return int(match[1]) if match is not None else None
