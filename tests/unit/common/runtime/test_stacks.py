"""The hard time-out of a test shows where its tasks stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[3]

HANGING = """
import asyncio

async def waits_for_ever():
    await asyncio.Event().wait()

async def test_hangs():
    task = asyncio.create_task(waits_for_ever(), name="the one that hangs")
    await task
"""


def test_a_time_out_prints_the_stacks_of_all_tasks(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(HANGING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    command = [sys.executable, "-m", "pytest", "-p", "stacks", "--timeout", "1.5", "--timeout-method", "thread", "."]
    ran = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(TESTS)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    shown = ran.stdout + ran.stderr
    assert "the one that hangs" in shown
    assert "in waits_for_ever" in shown
