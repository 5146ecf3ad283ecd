"""Under which name and version this process was started: a node starts `{apps_path}/{app}.v{version}`."""

from __future__ import annotations

import re
import sys

_FILE = re.compile(r"(?P<app>[A-Za-z0-9_][A-Za-z0-9._-]*?)\.v(?P<version>[0-9][A-Za-z0-9._-]*)")


def identity(app: str, version: str) -> tuple[str, str]:
    """Return name and version from the name of the program's file, else the given ones.

    So one program may serve as several apps of a node, each under a link of its own.
    """
    match = _FILE.fullmatch(sys.argv[0].rpartition("/")[2])
    return (app, version) if match is None else (match["app"], match["version"])
