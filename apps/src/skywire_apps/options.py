"""What the exits' and the listeners' command lines have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import click
from skywire_app import PublicKey, pipe
from skywire_common.errors import DecodeError, SkywireError
from skywire_common.named_keys import FROM_FILE, key_text

from skywire_apps.report import Report

# As of a wrong command line: it is not for the shell.
EXIT_NO_NODE = 2


def run(name: str, report: Report, work: Coroutine[Any, Any, None]) -> None:
    """Run an app to its end; an error is told in one line and exits with 1, with 2 if no node has started it."""
    try:
        # Before it makes or opens anything.
        pipe.descriptors()
    except SkywireError as error:
        work.close()
        end(name, report, error)
    try:
        asyncio.run(work)
    except (SkywireError, OSError) as error:
        end(name, report, error)


def end(name: str, report: Report, error: Exception) -> NoReturn:
    """Tell an error in one line and exit."""
    report.end(f"{name}: {error}", ok=False, error=str(error))
    sys.exit(EXIT_NO_NODE if isinstance(error, pipe.NoNode) else 1)


def nodes(texts: tuple[str, ...]) -> frozenset[PublicKey]:
    """Read node keys from a command line."""
    try:
        return frozenset(map(PublicKey.parse, texts))
    except DecodeError as error:
        raise click.BadParameter(str(error), param_hint="--node") from error


class Remote(click.ParamType[str]):
    """An address to dial, KEY:PORT; file:FILE:PORT reads the key from a file, as configurations do."""

    name = "KEY:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return KEY:PORT; what is wrong with it is told when it is dialled."""
        text = str(value)
        if not text.startswith(FROM_FILE):
            return text
        file, _, port = text.rpartition(":")
        try:
            return f"{key_text(file)}:{port}"
        except OSError as error:
            self.fail(f"{error.filename}: {error.strerror}", param, ctx)
