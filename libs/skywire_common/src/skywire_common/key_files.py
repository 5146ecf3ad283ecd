"""A service's key on disk: FILE with the secret, mode 0600, and FILE.pub with the public key, which others are told."""

from __future__ import annotations

from pathlib import Path

from skywire_common.curve import SecretKey
from skywire_common.drafts import in_place_of
from skywire_common.keys import PublicKey
from skywire_common.private_files import write_private

PUBLIC_SUFFIX = ".pub"
_PUBLIC_MODE = 0o644


def public_file(path: Path) -> Path:
    """Return where the public key of a secret key file is."""
    return path.with_name(path.name + PUBLIC_SUFFIX)


def make_key(path: Path) -> PublicKey:
    """Write a new secret key as 64 hex digits and its public key as 66; both are there, or neither.

    Raises OSError, FileExistsError too: a secret key is never overwritten, it is somebody's identity.
    """
    secret = SecretKey.generate()
    write_private(path, secret.to_bytes().hex() + "\n")
    try:
        write_public(path, secret.public)
    except OSError:
        path.unlink()
        raise
    return secret.public


def write_public(path: Path, key: PublicKey) -> None:
    """Write the public key of a secret key file, in place of what was there; whole or not at all, raises OSError."""
    with in_place_of(public_file(path)) as draft:
        draft.write_text(f"{key}\n")
        draft.chmod(_PUBLIC_MODE)
