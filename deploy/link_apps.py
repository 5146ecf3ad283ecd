"""Link the apps that are installed beside this Python to the names by which a node starts them: {app}.v{version}."""

from __future__ import annotations

import sys
from pathlib import Path

from skywire_cli.programs import shipped

if __name__ == "__main__":
    for app in shipped():
        app.link(Path(sys.argv[1]))
