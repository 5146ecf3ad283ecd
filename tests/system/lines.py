"""Command lines as users type them, each a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SKYWIRE = [sys.executable, "-m", "skywire_cli"]
DEADLINE = 60


def skywire(*line: str, env: dict[str, str] | None = None) -> tuple[int, Any]:
    """Run a command with --json; return its exit code and what it said, the error if there was one."""
    done = subprocess.run([*SKYWIRE, *line, "--json"], capture_output=True, text=True, env=env, timeout=DEADLINE)
    said = done.stdout if done.returncode in (0, 1, 4) and done.stdout else done.stderr
    return done.returncode, json.loads(said) if said else None


def printed(*line: str) -> str:
    """Return the table that a command prints."""
    return subprocess.run([*SKYWIRE, *line], capture_output=True, text=True, check=True, timeout=DEADLINE).stdout
