"""Apps on the command line: `NAME@NODE:PORT[=PROGRAM] [ARGUMENT...]`, for example `echo@3:20=./echo.py serve`.

Without PROGRAM it is the app of that name that ships. A Python file is run by this Python, so it needs no mode and no
first line. `{node2}` in the arguments becomes the public key of node 2.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from skywire_common.errors import DecodeError

from skywire_cli import programs
from skywire_cli.testnet.plan import AppPlan

_SPEC = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)@(?:node)?(?P<node>[0-9]+):(?P<port>[0-9]+)(?P<command>=.+|\s.*)?",
    re.ASCII | re.DOTALL,
)


def parse(text: str, *, auto_start: bool) -> tuple[int, AppPlan]:
    """Return the node's index and the app; raises DecodeError, CliError."""
    match = _SPEC.fullmatch(text)
    if match is None:
        raise DecodeError(f"an app is NAME@NODE:PORT[=PROGRAM] [ARGUMENT...], not {text!r}")
    named, command = match["name"], match["command"] or ""
    try:
        words = shlex.split(command.removeprefix("="))
    except ValueError as error:
        raise DecodeError(f"the command of {named} is quoted wrongly") from error
    program: tuple[str, ...]
    if not command.startswith("="):
        program = (str(programs.that_ships(named, f"{named}@NODE:PORT=FILE").program),)
    elif words:
        program = _program(words.pop(0))
    else:
        raise DecodeError(f"the command of {named} is empty")
    app = AppPlan(named, programs.VERSION, int(match["port"]), program, tuple(words), auto_start)
    return int(match["node"]) - 1, app


def by_node(apps: Iterable[tuple[int, AppPlan]]) -> dict[int, tuple[AppPlan, ...]]:
    """Gather apps by their node, each of which has programs of its own."""
    found: dict[int, tuple[AppPlan, ...]] = {}
    for node, app in apps:
        found[node] = (*found.get(node, ()), app)
    return found


def _program(program: str) -> tuple[str, ...]:
    if program.endswith(".py"):
        path = Path(program).absolute()
        if not path.is_file():
            raise DecodeError(f"there is no {path}")
        return (sys.executable, str(path))
    return (str(programs.executable(program)),)
