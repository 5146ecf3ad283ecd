"""What takes a file's place: whole, or what was there stands, and no draft stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from skywire_common.drafts import in_place_of


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_made_takes_the_place(tmp_path: Path) -> None:
    path = tmp_path / "it"
    for text in ("first", "second"):
        with in_place_of(path) as draft:
            draft.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_what_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "it"
    path.write_text("old")
    with pytest.raises(type(error)), in_place_of(path) as draft:
        draft.write_text("ne")
        raise error
    assert (path.read_text(), names(tmp_path)) == ("old", ["it"])


def test_a_place_that_cannot_be_taken_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    with pytest.raises(OSError, match="it"), in_place_of(tmp_path / "it") as draft:
        draft.write_text("new")
    assert names(tmp_path) == ["it"]


def test_a_draft_of_one_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".it.{os.getpid()}").symlink_to("nowhere")
    with in_place_of(tmp_path / "it") as draft:
        draft.symlink_to("here")
    assert (tmp_path / "it").readlink() == Path("here")
    assert names(tmp_path) == ["it"]
