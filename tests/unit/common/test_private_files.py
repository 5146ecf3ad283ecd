"""Which key files are refused: everything that others may read, except what root lends to a group."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from skywire_common.curve import SecretKey
from skywire_common.errors import LocalError
from skywire_common.private_files import check_private, is_private, write_private

ROOT, USER, OTHER = 0, 10_001, 10_002
GROUP, FOREIGN = 10_001, 10_003


def status(mode: int, owner: int, group: int) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, owner, group, 64, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "group", "user", "private"),
    [
        (0o600, USER, GROUP, USER, True),
        (0o400, ROOT, ROOT, ROOT, True),
        (0o440, ROOT, GROUP, USER, True),  # a Secret under fsGroup
        (0o640, ROOT, GROUP, USER, True),
        (0o440, ROOT, FOREIGN, USER, False),  # lent to a group that is not ours
        (0o460, ROOT, GROUP, USER, False),  # the group may write
        (0o444, ROOT, GROUP, USER, False),
        (0o640, OTHER, GROUP, USER, False),  # not root's
        (0o640, USER, GROUP, USER, False),
        (0o640, ROOT, ROOT, ROOT, False),  # root needs no group
    ],
)
def test_which_files_are_private(mode: int, owner: int, group: int, user: int, private: bool) -> None:
    assert is_private(status(mode, owner, group), user, {GROUP}) is private


def test_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.touch(mode=0o600)
    check_private(path)
    path.chmod(0o644)
    with pytest.raises(LocalError, match=r"mode 0644.*chmod 600"):
        check_private(path)
    with pytest.raises(FileNotFoundError):
        check_private(tmp_path / "none")


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_is_no_file_of_too_open_a_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(LocalError, match=r"is a directory, not a key file$"):
        SecretKey.load(path)
    with pytest.raises(LocalError, match=r"is a directory, not a file$"):
        check_private(path)


def test_a_wrong_path_is_told_before_a_wrong_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    for junk in (b"<html></html>", b"\xff" * 1_000, b"", b"00" * 32):
        path.write_bytes(junk)
        path.chmod(0o644)
        with pytest.raises(LocalError, match=r"holds no secret key of 64 hex digits, .* \(mode 0644\)$"):
            SecretKey.load(path)
    path.write_text("ab" * 32 + "\n")
    with pytest.raises(LocalError, match=r"mode 0644.*chmod 600"):
        SecretKey.load(path)


def test_a_file_is_made_for_its_owner_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    write_private(path, "abc\n")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("abc\n", 0o600)
    with pytest.raises(FileExistsError):
        write_private(path, "def\n")
    assert path.read_text() == "abc\n"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, before[1]))
    try:
        with pytest.raises(OSError, match="half"):
            write_private(tmp_path / "half.key", "abc\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "half.key").exists()
