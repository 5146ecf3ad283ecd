"""Each script of `scripts/` must produce its recorded transcript. SKYWIRE_SIM_REWRITE=1 records them anew."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest
from sim.script import record

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
REWRITE = bool(os.environ.get("SKYWIRE_SIM_REWRITE"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_produces_its_transcript(path: Path) -> None:
    got = record(path)
    if REWRITE:
        path.write_text(got)
        return
    wanted = path.read_text()
    if got != wanted:
        pytest.fail(
            "\n".join(difflib.unified_diff(wanted.splitlines(), got.splitlines(), "recorded", "now", lineterm=""))
        )


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 15
