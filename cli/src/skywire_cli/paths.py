"""Paths on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class NamedPath(click.Path):
    """A path as a `Path`; an empty one, of a variable that was not set perhaps, is no name for this directory."""

    def __init__(self, **options: bool) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse the empty text; the rest is click's."""
        if not os.fspath(value):
            self.fail("a path is not empty", param, ctx)
        return super().convert(value, param, ctx)
