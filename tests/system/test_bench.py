"""The benches run, clean up and report; how fast anything is, is not for tests to say."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.system


async def _bench(directory: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start the runner; `directory` is where its temporary files go."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(directory)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def _children(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
async def test_figures_come_out_beside_their_yardsticks(tmp_path: Path) -> None:
    process = await _bench(tmp_path, "p4", "p5", "--quick", "--json", "--out", str(tmp_path / "out"))
    said, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    document = json.loads(said)
    assert set(document["benches"]) == {"P4", "P5"}
    figures = {figure["what"]: figure for bench in document["benches"].values() for figure in bench["figures"]}
    trip = figures["16 B round trip p50"]
    assert trip["value"] > 0
    assert trip["ratio"] == pytest.approx(trip["value"] / trip["yardstick_value"])
    assert trip["verdict"] in ("reached", "half reached", "short")
    assert figures["64 B, sockets"]["value"] > 0
    (written,) = (tmp_path / "out").iterdir()
    assert json.loads(written.read_text()) == document
    written.unlink()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


async def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await _bench(tmp_path, "p5", "--out", str(tmp_path / "out"))
    async with asyncio.timeout(30):
        while len(started := _children(process.pid)) < 3:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaints = await process.communicate()
    assert process.returncode == 130, complaints.decode()
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list(tmp_path.iterdir()) == []
