"""How much room a node has where it keeps its files; too little is told before it is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

LEAST_FREE = 200 << 20


def free_at(local: Path, config: Path) -> int | None:
    """Return the bytes that are free at a node's `local_path`, else beside its configuration; None: nobody knows."""
    try:
        return shutil.disk_usage(local if local.exists() else config.parent).free
    except OSError:
        return None


def shortage(config: Path | None) -> str:
    """Say how little room the node with this configuration has; empty if it is enough, or nobody knows."""
    if config is None:
        return ""
    try:
        document = json.loads(config.read_text())
    except (OSError, ValueError):
        return ""  # the doctor says what is wrong with it
    local = document.get("local_path", "local") if isinstance(document, dict) else "local"
    free = free_at(Path(str(local)), config)
    return too_little(free) if free is not None and free < LEAST_FREE else ""


def too_little(free: int) -> str:
    """Return the words for a disk that is full, or nearly."""
    return f"{free >> 20} MiB are free where the node keeps its files"
