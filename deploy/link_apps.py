"""Link the apps that are installed beside this Python to the names by which a node starts them: {app}.v{version}."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import distribution
from pathlib import Path

PREFIX = "skywire-"


def link(directory: Path, programs: Path) -> list[Path]:
    """Make a link for each command of skywire-apps; return them."""
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for command in distribution("skywire-apps").entry_points.select(group="console_scripts"):
        version: str = importlib.import_module(command.module).VERSION
        path = directory / f"{command.name.removeprefix(PREFIX)}.v{version}"
        path.symlink_to(programs / command.name)
        made.append(path)
    return made


if __name__ == "__main__":
    link(Path(sys.argv[1]), Path(sys.executable).parent)
