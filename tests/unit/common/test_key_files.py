"""A key and its .pub: both or neither, the secret one never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from skywire_common.curve import SecretKey
from skywire_common.key_files import make_key, public_file, write_public


def test_a_key_and_what_others_are_told_of_it(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    key = make_key(path)
    assert SecretKey.load(path).public == key
    assert (tmp_path / "secret.key.pub").read_text() == f"{key}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        make_key(path)
    assert SecretKey.load(path).public == key


def test_the_public_key_follows_the_secret_one(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    public_file(path).write_text("of a key that was here before\n")
    key = make_key(path)
    write_public(path, key)
    assert public_file(path).read_text() == f"{key}\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["secret.key", "secret.key.pub"]


def test_no_key_is_left_whose_public_one_cannot_be_told(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    public_file(path).mkdir()
    with pytest.raises(OSError, match="pub"):
        make_key(path)
    assert [one.name for one in tmp_path.iterdir()] == ["secret.key.pub"]
