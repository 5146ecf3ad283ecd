"""How many connections an app carries at once: what its command line may say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

MOST_CONNECTIONS = 1_000
PER_NODE = 512

_Command = TypeVar("_Command", bound=Callable[..., Any])


def max_connections(default: int = MOST_CONNECTIONS) -> Callable[[_Command], _Command]:
    """Add --max-connections, of all nodes or programs together."""
    return _bounded("--max-connections", default)


def max_per_node() -> Callable[[_Command], _Command]:
    """Add --max-per-node."""
    return _bounded("--max-per-node", PER_NODE)


def _bounded(name: str, default: int) -> Callable[[_Command], _Command]:
    return click.option(name, default=default, show_default=True, type=click.IntRange(1, MOST_CONNECTIONS))
