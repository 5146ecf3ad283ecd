"""A node's apps on the command line: `NAME[@PORT][=PROGRAM] [ARGUMENT...]`, for example `chat --listen 127.0.0.1:8001`.

NAME alone is an app that ships, whose program is installed as skywire-NAME. A node starts {apps_path}/{app}.v{version}:
that becomes a link to the program, and the configuration gets an entry, with which the app starts with its node.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from skywire_common.app_rules import FIRST_CONFIGURED, FIRST_FREE, RESERVED
from skywire_common.drafts import in_place_of

from skywire_cli.failures import CliError

COMMAND = "skywire-"
# Of those that ship, and of any other program: the node tells an app which name and version it has.
VERSION = "1.0"
# Of those that ship, by their programs: the word with which one only dials, "" where it never does anything else.
_DIALS = {
    "skywire-filecopy": "send",
    "skywire-forward": "listen",
    "skywire-helloworld": "--dial",
    "skywire-socksproxy-client": "",
    "skywire-ssh-client": "",
}
_SPEC = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)(@(?P<port>[0-9]{1,5}))?(=(?P<program>.+))?", re.ASCII | re.DOTALL
)
_PORTS = {name: port for port, name in RESERVED.items()}
_GRAMMAR = "an app is NAME[@PORT][=PROGRAM] [ARGUMENT...]"


class App(NamedTuple):
    """An app of a node's configuration and the program that it is."""

    name: str
    version: str
    port: int
    program: Path
    arguments: tuple[str, ...]

    def entry(self) -> dict[str, Any]:
        """Return its entry under `apps`."""
        port = {"port": self.port} if self.port else {}
        return {
            "app": self.name,
            "version": self.version,
            **port,
            "auto_start": True,
            "args": list(self.arguments),
        }

    def warnings(self) -> list[str]:
        """Say that nobody can dial an app without a port, unless it is known to dial itself; else return nothing."""
        word = _DIALS.get(self.program.name)
        dials = word is not None and (
            not word or any(argument.partition("=")[0] == word for argument in self.arguments)
        )
        if self.port or dials:
            return []
        return [
            f"{self.name} has no port, so nobody can dial it; if others shall, name one:"
            f" {self.name}@PORT, {FIRST_CONFIGURED} to {FIRST_FREE - 1}"
        ]

    def link(self, directory: Path) -> Path:
        """Link the program in a node's apps_path, in place of an older link; raises CliError for anybody's file."""
        path = directory / f"{self.name}.v{self.version}"
        if path.exists() and not path.is_symlink():
            raise CliError(
                "ALREADY_EXISTS", f"{path} is a file of somebody's own", "move it away, or name the app otherwise"
            )
        directory.mkdir(parents=True, exist_ok=True)
        with in_place_of(path) as draft:
            draft.symlink_to(self.program)
        return path


def parse(text: str) -> App:
    """Read one app and find its program; raises CliError that says what to do."""
    try:
        first, *arguments = shlex.split(text)
    except ValueError as error:
        raise CliError("USAGE", f"{_GRAMMAR}: {text!r} is empty or quoted wrongly") from error
    match = _SPEC.fullmatch(first)
    if match is None:
        raise CliError("USAGE", f"{_GRAMMAR}, not {text!r}")
    name, port = match["name"], int(match["port"]) if match["port"] else _PORTS.get(match["name"], 0)
    if match["program"]:
        return App(name, VERSION, port, executable(match["program"]), tuple(arguments))
    return that_ships(name, f"{name}=FILE")._replace(port=port, arguments=tuple(arguments))


def that_ships(name: str, own: str) -> App:
    """Return the app of a name that is installed with this command.

    Raises CliError that says which there are, and that `own` would name a program of the user's.
    """
    found = {app.name: app for app in shipped()}
    if name not in found:
        ships = ", ".join(sorted(found)) or "none, skywire-apps is not installed"
        raise CliError("NOT_FOUND", f"no app {name} ships", f"those that do: {ships}; a program of your own: {own}")
    return found[name]


def shipped() -> Iterable[App]:
    """Return the apps that are installed with this command; their ports are those that only they may have."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        commands = distribution("skywire-apps").entry_points.select(group="console_scripts")
    except PackageNotFoundError:
        return
    for command in commands:
        name = command.name.removeprefix(COMMAND)
        yield App(name, VERSION, _PORTS.get(name, 0), installed(command.name), ())


def installed(command: str) -> Path:
    """Return a program of this project: beside this Python, or on the path; raises CliError."""
    beside = Path(sys.executable).parent / command
    found = str(beside) if beside.exists() else shutil.which(command)
    if found is None:
        raise CliError("NOT_INSTALLED", f"{command} is not installed")
    return Path(found).absolute()


def executable(program: str) -> Path:
    """Return a program on the path or in a folder; raises CliError that says what is wrong with it."""
    # One in this folder needs no ./ before it.
    found = shutil.which(program) or shutil.which(f"./{program}")
    if found is not None:
        return Path(found).absolute()
    if Path(program).is_file():
        hint = f"chmod +x {program}; its first line names who runs it, as in #!{sys.executable}"
        raise CliError("FILE", f"{program} is not executable", hint)
    raise CliError("NOT_FOUND", f"there is no program {program}")
