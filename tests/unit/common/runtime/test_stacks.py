"""A test that is out of time shows where its tasks stand, and fails where it waits if it can."""

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

async def test_after():
    pass
"""

BLOCKING = """
import asyncio, time

async def waits_for_ever():
    await asyncio.Event().wait()

async def test_blocks():
    task = asyncio.create_task(waits_for_ever(), name="the one that hangs")
    await asyncio.sleep(0)
    time.sleep(1000)
"""

PLAIN = """
import time

def test_sleeps():
    time.sleep(1000)

def test_after():
    pass
"""


def shown(directory: Path, tests: str, timeout: float, *options: str) -> str:
    """Run tests that fail with the plugin, and return what is shown."""
    (directory / "test_these.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    line = [sys.executable, "-m", "pytest", "-p", "stacks", "--timeout", str(timeout), "--timeout-method", "thread"]
    environment = {"PYTHONPATH": str(TESTS)}
    ran = subprocess.run(
        [*line, *options, "."], cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    return ran.stdout + ran.stderr


def test_a_test_that_hangs_fails_where_it_waits_and_the_next_one_runs(tmp_path: Path) -> None:
    text = shown(tmp_path, HANGING, 6)
    assert "the one that hangs" in text
    assert "in waits_for_ever" in text
    assert "CancelledError: time is up" in text
    assert "1 failed, 1 passed" in text


def test_a_test_that_blocks_shows_its_stacks_from_a_worker_too(tmp_path: Path) -> None:
    text = shown(tmp_path, BLOCKING, 2, "-n", "1", "--max-worker-restart", "0")
    assert "the one that hangs" in text
    assert "in waits_for_ever" in text
    assert 'test_these.py", line 10 in test_blocks' in text


def test_a_plain_test_fails_where_it_stands_and_the_next_one_runs(tmp_path: Path) -> None:
    text = shown(tmp_path, PLAIN, 1)
    assert "test_these.py:5: Failed" in text
    assert "1 failed, 1 passed" in text
