"""Property-based testing of the HTTP API against its own schema: `make schemathesis`.

schemathesis lives in an environment of its own (.venv-schemathesis); the discovery runs from this one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from discovery_process import DiscoveryProcess

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def main() -> int:
    """Start a discovery, run schemathesis against it, return its exit code."""
    with tempfile.TemporaryDirectory() as directory:
        process = DiscoveryProcess(Path(directory), f"sqlite+aiosqlite:///{directory}/discovery.db").start()
        try:
            url = f"http://{process.http}"
            return subprocess.run(
                [
                    str(ROOT / ".venv-schemathesis" / "bin" / "schemathesis"),
                    "--config-file",
                    str(HERE / "schemathesis.toml"),
                    "run",
                    f"{url}/openapi.json",
                    "--checks=all",
                    *sys.argv[1:],
                ],
                env=os.environ
                | {
                    "DISCOVERY_URL": url,
                    "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py"),
                    "PYTHONPATH": str(ROOT / "libs" / "skywire_common" / "src"),
                },
                cwd=directory,
                check=False,
            ).returncode
        finally:
            process.stop()


if __name__ == "__main__":
    sys.exit(main())
