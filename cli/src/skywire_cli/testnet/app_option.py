"""Apps on the command line: `NAME@NODE:PORT=COMMAND`, for example `echo@3:20=./echo.py serve`.

The first word of the command is the program; a Python file is run by this Python, so it needs no mode and no first
line. `{node2}` in the other words becomes the public key of node 2.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from skywire_common.errors import DecodeError

from skywire_cli.testnet.plan import AppPlan

VERSION = "1.0"
_SPEC = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)@(?:node)?(?P<node>[0-9]+):(?P<port>[0-9]+)=(?P<command>.+)", re.ASCII
)


def parse(text: str, *, auto_start: bool) -> tuple[int, AppPlan]:
    """Return the node's index and the app; raises DecodeError."""
    match = _SPEC.fullmatch(text)
    if match is None:
        raise DecodeError(f"an app is NAME@NODE:PORT=COMMAND, not {text!r}")
    try:
        program, *arguments = shlex.split(match["command"])
    except ValueError as error:
        raise DecodeError(f"the command of {match['name']} is empty or quoted wrongly") from error
    app = AppPlan(match["name"], VERSION, int(match["port"]), _command(program), tuple(arguments), auto_start)
    return int(match["node"]) - 1, app


def by_node(apps: Iterable[tuple[int, AppPlan]]) -> dict[int, tuple[AppPlan, ...]]:
    """Gather apps by their node, each of which has programs of its own."""
    found: dict[int, tuple[AppPlan, ...]] = {}
    for node, app in apps:
        found[node] = (*found.get(node, ()), app)
    return found


def _command(program: str) -> tuple[str, ...]:
    if program.endswith(".py"):
        path = Path(program).absolute()
        if not path.is_file():
            raise DecodeError(f"there is no {path}")
        return (sys.executable, str(path))
    found = shutil.which(program)
    if found is None:
        raise DecodeError(f"there is no program {program}")
    return (str(Path(found).absolute()),)
