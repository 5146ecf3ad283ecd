"""What the command prints: tables for people, JSON for programs. Rich is loaded when the first table is drawn."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from skywire_cli.failures import CliError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough for two public keys side by side when nobody's terminal limits it.
_WIDTH_IN_A_PIPE = 220
_PADDING = re.compile(r" +\n")
# Reasons, names and printed lines come from apps and nodes of others: they must not steer the terminal that shows them.
_CONTROLS = {sign: f"\\x{sign:02x}" for sign in (*range(0x20), *range(0x7F, 0xA0)) if sign not in b"\t\n"}
_JSON_KEY = "skywire.json"


def want_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    """Remember `--json`, wherever on the line it stands."""
    if value:
        context.meta[_JSON_KEY] = True


def json_wanted() -> bool:
    """Say whether the running command was given `--json`."""
    context = click.get_current_context(silent=True)
    return bool(context is not None and context.meta.get(_JSON_KEY))


def json_option() -> click.Option:
    """Make the option that every command and group has."""
    return click.Option(
        ["--json"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=want_json,
        help="Print JSON, errors included.",
    )


def print_json(document: object) -> None:
    """Print one JSON document on one line of standard output."""
    click.echo(json.dumps(document))


def visible(text: object) -> str:
    """Return text in which control characters but tab and line feed are seen, not obeyed: ESC as `\\x1b`."""
    return str(text).translate(_CONTROLS)


def print_error(error: CliError, as_json: bool) -> None:
    """Print an error to standard error."""
    if as_json:
        click.echo(json.dumps(error.document()), err=True)
        return
    click.echo(f"{click.style('error:', fg='red')} {visible(error.message)}", err=True)
    for name, value in error.details.items():
        click.echo(f"  {name}: {visible(value)}", err=True)
    if error.hint:
        click.echo(f"  hint: {visible(error.hint)}", err=True)


def warn(warnings: Iterable[str]) -> None:
    """Print what may be mistakes to standard error; with --json the document has them."""
    for text in () if json_wanted() else warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {visible(text)}", err=True)


def console() -> Console:
    """Return a console on standard output; if that is no terminal wide, so that nothing is cut, and unpadded."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=_WIDTH_IN_A_PIPE, file=_Unpadded())


class _Unpadded(io.StringIO):
    """Standard output, without the blanks with which a table fills its lines."""

    def write(self, text: str, /) -> int:
        sys.stdout.write(_PADDING.sub("\n", text))
        return len(text)

    def flush(self) -> None:
        sys.stdout.flush()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Make a table; a column whose name starts with `>` is aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    made = Table(title=visible(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(escape(visible(cell)) for cell in row))
    return made


def counted(count: int, what: str) -> str:
    """Return a number with its noun: `1 transport`, `2 transports`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def route_id(number: int) -> str:
    """Return the id of a rule as tables show it and `rules remove` takes it."""
    return f"{number:08x}"


def size(count: float) -> str:
    """Return bytes for people: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def age(seconds: float) -> str:
    """Return a duration for people: `3 h 05 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole // 60 % 60:02d} min"
