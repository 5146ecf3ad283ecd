"""`skywire logs`: a node's log for people, or what one of its apps printed; from a file, a testnet or the journal."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, visible
from skywire_cli.paths import NamedPath
from skywire_cli.target import Target, target_options

UNIT = "skywire-node"
LEVELS = ("debug", "info", "warning", "error", "critical")
_COLOUR = {"warning": "yellow", "error": "red", "critical": "red"}
_POLL = 0.2
# A record of a node is some hundred characters, with a traceback a few thousand.
MAX_LINE = 1 << 16
_FIRST = ("timestamp", "level", "event")


@click.command(cls=JsonCommand)
@target_options
@click.option("--file", type=NamedPath(dir_okay=False, exists=True), help="The log, if it is a file.")
@click.option("--unit", default=UNIT, show_default=True, help="The systemd unit whose journal is read otherwise.")
@click.option("--app", help="Only what this app printed.")
@click.option("--level", type=click.Choice(LEVELS[:4]), default="debug", help="Only from this level up.")
@click.option("--lines", type=click.IntRange(0, 100_000), default=100, show_default=True, help="The last so many.")
@click.option("--follow", is_flag=True, help="Then wait for more, until interrupted.")
def logs(target: Target, file: Path | None, unit: str, app: str | None, level: str, lines: int, follow: bool) -> None:
    """Show the node's log, of a testnet's node, of --file, or of the journal of a systemd unit."""
    found = file or _file_of(target)
    if app is not None and file is None and found is not None:
        from skywire_cli.testnet.command import check_app

        check_app(app, found)
    raw = _of_file(found, follow) if found is not None else _of_journal(unit, follow)
    shown = chosen(raw, app, level)
    if not follow:
        shown = iter(deque(shown, maxlen=lines))
    for line in shown:
        click.echo(line)


def chosen(raw: Iterable[str], app: str | None, level: str) -> Iterator[str]:
    """Pick lines and write them for people; with --json they stay as they are."""
    least = LEVELS.index(level)
    for line in raw:
        record = _record(line)
        if record is None:
            if app is None and line.strip() and _is_text(line):
                yield visible(line.rstrip("\r\n"))  # not the logger's: the interpreter's last words, perhaps
            continue
        if app is not None and not (record.get("app") == app and "line" in record):
            continue
        if LEVELS.index(record["level"]) >= least if record.get("level") in LEVELS else True:
            yield (
                line.rstrip("\n") if json_wanted() else visible(record["line"]) if app is not None else written(record)
            )


def written(record: dict[str, Any]) -> str:
    """Write a record on one line: time, level, what, and the rest as name=value; a traceback below it."""
    level = str(record.get("level", ""))
    rest = " ".join(
        f"{name}={visible(value) if isinstance(value, str) else json.dumps(value)}"
        for name, value in record.items()
        if name not in _FIRST and name != "exception"
    )
    event = visible(record.get("event", ""))
    head = f"{record.get('timestamp', '')} {click.style(f'{level:7}', fg=_COLOUR.get(level))} {event}"
    text = f"{head}  {click.style(rest, dim=True)}" if rest else head
    return f"{text}\n{visible(record['exception'])}" if "exception" in record else text


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _file_of(target: Target) -> Path | None:
    from skywire_cli.testnet.state import load

    state = load(target.directory)
    if state is None or (target.socket is not None and target.number is None):
        return None
    return Path(state.numbered(target.number or 1).log)


def _of_file(path: Path, follow: bool) -> Iterator[str]:
    if path.is_char_device() or path.is_block_device():
        raise CliError("INVALID_INPUT", f"{path} is a device, not a log", "name the file that the node writes to")
    with path.open(errors="replace") as file:
        yield from _lines(file, follow)


def _lines(file: TextIO, follow: bool) -> Iterator[str]:
    """Read whole lines; of one longer than MAX_LINE the beginning."""
    part = ""
    while True:
        piece = file.readline(MAX_LINE)
        if not piece:
            if not follow:
                break
            time.sleep(_POLL)
            continue
        part = (part + piece)[: MAX_LINE + 1]
        if piece.endswith("\n"):
            yield part if part.endswith("\n") else f"{part[:MAX_LINE]}…\n"
            part = ""
    if part:
        yield part if len(part) <= MAX_LINE else f"{part[:MAX_LINE]}…"


def _is_text(line: str) -> bool:
    """Say whether a line was meant for people: letters and signs, tabs, the colours of a terminal, no more."""
    return "\ufffd" not in line and all(sign.isprintable() or sign in "\t\r\n\x1b" for sign in line)


def _of_journal(unit: str, follow: bool) -> Iterator[str]:
    journal = shutil.which("journalctl")
    if journal is None:
        hint = "name the file by --file; the node writes its log to standard error"
        raise CliError("NO_LOG", "this machine has no journal to read", hint)
    line = [journal, f"--unit={unit}", "--output=cat", "--no-pager", *(["--follow"] if follow else [])]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        nothing = True
        try:
            for text in process.stdout:
                nothing = False
                yield text
        finally:
            process.terminate()
    if nothing and not follow:
        hint = "name another one by --unit, or a file by --file; a node that no unit runs logs to its standard error"
        raise CliError("NO_LOG", f"the journal has nothing of {unit}", hint)
