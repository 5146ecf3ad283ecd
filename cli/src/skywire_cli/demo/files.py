"""The demo's directory and files. All of it blocks."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skywire_cli.failures import CliError

_CHUNK = 1 << 20


@contextmanager
def workplace(directory: Path | None, keep: bool) -> Iterator[Path]:
    """Give an empty directory for everything, and remove it afterwards with all that is in it unless `keep`."""
    if directory is None:
        place = Path(tempfile.mkdtemp(prefix="skywire-demo-"))
    else:
        place = directory.absolute()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise CliError("NOT_EMPTY", f"{place} is not empty", "name another one by --dir")
    try:
        yield place
    finally:
        if not keep:
            shutil.rmtree(place)


def make_file(path: Path, size: int) -> str:
    """Write `size` random bytes and return their SHA-256 in hex."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        while size:
            chunk = secrets.token_bytes(min(size, _CHUNK))
            file.write(chunk)
            digest.update(chunk)
            size -= len(chunk)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
