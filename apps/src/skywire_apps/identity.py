"""Under which name and version this process was started: the node says so, and starts `{app}.v{version}`."""

from __future__ import annotations

import os
import re
import sys

from skywire_common.app_rules import NAME_VARIABLE, VERSION_VARIABLE

_FILE = re.compile(r"(?P<app>[A-Za-z0-9_][A-Za-z0-9._-]*?)\.v(?P<version>[0-9][A-Za-z0-9._-]*)")


def identity(app: str, version: str) -> tuple[str, str]:
    """Return what the node says, else name and version from the name of the program's file, else the given ones.

    So one program may serve as several apps of a node, each under a name of its own.
    """
    if NAME_VARIABLE in os.environ and VERSION_VARIABLE in os.environ:
        return os.environ[NAME_VARIABLE], os.environ[VERSION_VARIABLE]
    match = _FILE.fullmatch(sys.argv[0].rpartition("/")[2])
    return (app, version) if match is None else (match["app"], match["version"])
