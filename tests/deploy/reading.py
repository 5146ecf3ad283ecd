"""YAML by its C parser, ten times as fast as the other."""

from __future__ import annotations

from typing import Any

import yaml


def read(text: str) -> Any:
    """Return the only document of a text."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def read_all(text: str) -> list[Any]:
    """Return all documents of a text that say something."""
    return [one for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]
