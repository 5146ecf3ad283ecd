"""The last release: the commit that deploy/release names, unpacked with its protos' code, to run its services from."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
COMMIT = (ROOT / "deploy" / "release").read_text().strip()
LOCKS = ("discovery", "setup-node", "node")
SOURCES = (
    "libs/skywire_common",
    "libs/skywire_app",
    "services/node",
    "services/setup_node",
    "services/transport_discovery",
    "apps",
    "cli",
)


def is_here() -> bool:
    """Say whether this clone has the release's commit; one that is shallow may not."""
    return subprocess.run(["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, check=False).returncode == 0


def unpack(to: Path, *paths: str) -> None:
    """Unpack the release's files, or those below `paths`."""
    archive = subprocess.run(["git", "archive", COMMIT, *paths], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(to, filter="data")


def install(to: Path) -> dict[str, str]:
    """Unpack the release; return the environment in which this Python runs its services.

    What it needs of others is what is installed here if its locks name the same; else that is installed beside it.
    """
    unpack(to)
    common = to / "libs" / "skywire_common"
    subprocess.run([sys.executable, "-c", "import setup; setup.generate()"], cwd=common, check=True)
    places = [str(to / source / "src") for source in SOURCES]
    differing = [pin for lock in LOCKS for pin in _differing(to / "deploy" / "locks" / f"{lock}.lock")]
    if differing:
        beside = to / "site"
        locks = [word for lock in LOCKS for word in ("-r", str(to / "deploy" / "locks" / f"{lock}.lock"))]
        uv = Path(sys.executable).parent / "uv"
        command = [str(uv), "pip", "install", "-q", "--require-hashes", "--no-deps", "--target", str(beside), *locks]
        subprocess.run(command, check=True)
        places.append(str(beside))
    return {"PYTHONPATH": os.pathsep.join(places)}


def _differing(lock: Path) -> list[str]:
    """Return the pins that are not what is installed here."""
    return [
        f"{name}=={wanted}"
        for name, wanted, condition in re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==([^\s;]+)(.*)$", lock.read_text())
        if not _other_platform(condition) and _installed(name) != wanted
    ]


def _other_platform(condition: str) -> bool:
    return ("win32" in condition and "!=" not in condition) or "python_full_version" in condition


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
