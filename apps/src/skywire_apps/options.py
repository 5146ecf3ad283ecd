"""What the exits' and the listeners' command lines have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

import click
from skywire_app import PublicKey
from skywire_common.errors import DecodeError, SkywireError

from skywire_apps.report import Report


def run(name: str, report: Report, work: Coroutine[Any, Any, None]) -> None:
    """Run an app to its end; an error is told in one line and exits with 1."""
    try:
        asyncio.run(work)
    except (SkywireError, OSError) as error:
        report.end(f"{name}: {error}", ok=False, error=str(error))
        sys.exit(1)


def nodes(texts: tuple[str, ...]) -> frozenset[PublicKey]:
    """Read node keys from a command line."""
    try:
        return frozenset(map(PublicKey.parse, texts))
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--node") from error
