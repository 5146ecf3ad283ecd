"""What an older engine lacks: Docker before 26 and podman 4 know no subpaths of volumes, nor the mode of a tmpfs.

With them every container sees the volume of the identities whole, below ALL, and may write to its own root.
"""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

ALL = "/run/all-identities"
SYSTEMD = Path("/run/systemd/system")
_HEALTH_S = 1.0


def without_subpaths(document: dict[str, Any]) -> dict[str, Any]:
    """Return what `docker compose config` says, for such an engine."""
    return document | {"services": {name: _service(one) for name, one in document["services"].items()}}


def _service(service: dict[str, Any]) -> dict[str, Any]:
    below: dict[str, str] = {}
    volumes = []
    for volume in service.get("volumes", ()):
        subpath = volume.get("volume", {}).get("subpath")
        if subpath is None:
            volumes.append(volume)
        else:
            below[volume["target"]] = f"{ALL}/{subpath}"
            whole = {"type": "volume", "source": volume["source"], "target": ALL, "read_only": True}
            if whole not in volumes:
                volumes.append(whole)

    def moved(text: str | None) -> str | None:
        for target, place in below.items():
            text = text and text.replace(f"{target}/", f"{place}/")
        return text

    environment = {name: moved(value) for name, value in service.get("environment", {}).items()}
    kept = {name: value for name, value in service.items() if name not in ("build", "tmpfs", "logging")}
    return kept | {"volumes": volumes, "environment": environment, "read_only": False}


class HealthChecks:
    """Runs podman's health checks where no systemd does, within the `with` block; elsewhere it does nothing."""

    def __init__(self, engine: str) -> None:
        self._needed = engine == "podman" and not SYSTEMD.exists()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="health checks")

    def __enter__(self) -> None:
        if self._needed:
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._needed:
            self._thread.join()

    def _run(self) -> None:
        line = ["podman", "ps", "--filter", "health=starting", "--format", "{{.Names}}"]
        while not self._over.wait(_HEALTH_S):
            found = subprocess.run(line, capture_output=True, text=True, check=False)
            for name in found.stdout.split():
                subprocess.run(["podman", "healthcheck", "run", name], capture_output=True, check=False)
