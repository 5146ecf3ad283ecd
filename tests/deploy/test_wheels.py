"""The wheel of what all services share, built as an image does: from a source that holds no generated code yet."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from deploy.images import DEPLOY

ROOT = DEPLOY.parent


@pytest.mark.slow  # protoc with its plugins, and setuptools: five seconds; CI runs it
def test_a_wheel_from_a_clean_source_has_the_generated_code(tmp_path: Path) -> None:
    # Without this an image was once built that had no protos.
    source = tmp_path / "source" / "libs" / "skywire_common"
    shutil.copytree(ROOT / "protos", tmp_path / "source" / "protos")
    shutil.copytree(
        ROOT / "libs" / "skywire_common",
        source,
        ignore=shutil.ignore_patterns("skywire", "*.egg-info", "build", "__pycache__"),
    )
    # What pip does once it has found out that this is all: a third of the time.
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for proto in (ROOT / "protos").rglob("*.proto"):
        stem = str(proto.relative_to(ROOT / "protos").with_suffix(""))
        assert {f"{stem}_pb2.py", f"{stem}_pb2_grpc.py", f"{stem}_pb2.pyi"} <= names
    assert {"skywire/py.typed", "skywire_common/py.typed", "skywire_common/rpc/server.py"} <= names
