"""What an app leaves behind ends with it, whatever it did to hide; what it makes too much of waits."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from skywire_node.apps import orphans
from skywire_node.apps.limits import Limits
from skywire_node.apps.pace import Pace
from skywire_node.apps.run import AppSpec, AppState
from unit.node.app_world import PRELUDE, WIKI_ECHO, World, opened

# Leaves a process in a session of its own, its parent gone, its pipe ends kept; HIDDEN clears its environment as well.
LEAVES = """
init(); os.read(3, 100)
for hidden in (False, True):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            place = sys.argv[1] + ("/hidden" if hidden else "/marked")
            word = "import os, time; open(%r, 'w').write(str(os.getpid())); os.rename(%r, %r); time.sleep(600)"
            word %= (place + ".part", place + ".part", place)
            os.execve(sys.executable, [sys.executable, "-S", "-c", word], {} if hidden else os.environ)
        os._exit(0)
print("left", flush=True)
time.sleep(600)
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


async def left(folder: Path, name: str) -> int:
    async with asyncio.timeout(20):
        while not (folder / name).exists():
            await asyncio.sleep(0.01)
    return int((folder / name).read_text())


async def test_an_orphan_in_a_session_of_its_own_ends_with_its_app(world: World) -> None:
    world.bad(LEAVES)
    host = world.make(AppSpec("bad", "1", args=(str(world.folder),)))
    host.start_app("bad")
    marked, hidden = [await left(world.folder, name) for name in ("marked", "hidden")]
    try:
        assert runs(marked) and runs(hidden)
        os.kill(host.status("bad").pid, signal.SIGKILL)
        await world.until_state("bad", AppState.STOPPED)
        async with asyncio.timeout(20):
            while runs(marked):
                await asyncio.sleep(0.01)
        assert runs(hidden), "only a process that is nothing but a node takes strangers for its own"
    finally:
        os.kill(hidden, signal.SIGKILL)


async def test_a_long_look_at_all_processes_holds_nothing_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, going_on = threading.Event(), threading.Event()

    def many() -> Iterator[int]:
        seen.set()
        assert going_on.wait(20)
        yield from ()

    monkeypatch.setattr(orphans, "_processes", many)
    world.bad("init(); os.read(3, 100); time.sleep(600)")
    world.app("echo", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("bad", "1"), AppSpec("echo", "1.0", port=10))
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    os.kill(host.status("bad").pid, signal.SIGKILL)
    try:
        assert await asyncio.to_thread(seen.wait, 20)
        # Meanwhile the node goes on, also with what it does for apps; the number stays the dead one's until the end.
        host.start_app("echo")
        await world.until_state("echo", AppState.READY)
        far = world.dial(10, b"hello")
        assert await far.until(5) == b"hello"
        assert Path(f"/proc/{host.status('bad').pid}").exists()
    finally:
        going_on.set()
    await world.until_state("bad", AppState.STOPPED)


def test_rounds_after_processes_that_start_others_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0

    def always_another() -> Iterator[int]:
        nonlocal rounds
        rounds += 1
        assert rounds <= orphans.MAX_ROUNDS
        yield 10_000_000 + rounds

    monkeypatch.setattr(orphans, "_processes", always_another)
    monkeypatch.setattr(orphans, "_kill_if_marked", lambda _pid, _mark: True)
    hunted = orphans.Orphans()
    hunted.began(1, hunted.mark())
    hunted._end(1)
    assert rounds == orphans.MAX_ROUNDS


# A node's process: it adopts what its apps leave. Prints what it has as children at the end.
NODE = """
import asyncio, sys
from pathlib import Path
from unit.node.app_world import World
from unit.node import app_world
from skywire_node.apps import host as module
from skywire_node.apps.run import AppSpec, AppState

async def main():
    folder = Path(sys.argv[1])
    world = World(folder)
    specs = [AppSpec("bad", "1", args=(str(folder),)), AppSpec("good", "1")]
    host = world.make(*specs, adopts=True)
    host.start_app("good")
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    while not all((folder / name).exists() for name in ("marked", "hidden")):
        await asyncio.sleep(0.01)
    await host.stop_app("bad", 0.2)
    pids = [int((folder / name).read_text()) for name in ("marked", "hidden")]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):  # not even zombies
        await host._orphans.sweep()
        await asyncio.sleep(0.01)
    print(host.status("good").pid in app_world.processes(), len(app_world.processes()), flush=True)
    await host.close(0.2)

asyncio.run(main())
"""


async def test_a_node_adopts_and_ends_even_those_that_hide(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.bad(LEAVES)
    world.app("good", "1", PRELUDE + "init(); os.read(3, 100); time.sleep(600)")
    tests = Path(__file__).parents[2]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", NODE, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert (done.returncode, done.stdout) == (0, "True 1\n"), done.stderr


def test_frames_per_second_are_bounded_and_a_pause_is_as_long_as_it_has_to_be() -> None:
    pace = Pace(100, 10.0)
    assert pace.spend(100, 10.0) == 0, "a second's worth at once"
    assert pace.spend(50, 10.0) == pytest.approx(0.5)
    assert pace.spend(0, 10.5) == pytest.approx(0)
    assert pace.spend(100, 1_000.0) == 0, "a quiet hour saves no more than a second's worth"
    assert pace.spend(1, 1_000.0) == pytest.approx(0.01)
    pace = Pace(100, 0.0)
    rest = sum(pace.spend(1, second / 200) for second in range(400))
    assert rest > 0


async def test_an_app_that_makes_too_many_frames_is_held_back_and_loses_nothing(world: World) -> None:
    frames, per_s = 600, 200  # slow enough for a machine that is busy
    world.bad(
        f"""
init(); os.read(3, 100)
began = time.monotonic()
for number in range({frames}):
    frame(4, 1, b'{{"port":1,"remote":{{"pk":"02{"11" * 32}","port":1}}}}')
    answers = os.read(3, 65536)
    assert answers.startswith(struct.pack(">H", len(answers) - 2) + bytes((0xfe, 1))), answers
print(time.monotonic() - began, flush=True)
os.read(3, 1)
""",
    )
    host = world.make(AppSpec("bad", "1", limits=Limits(frames_per_s=per_s)))
    host.start_app("bad")
    async with asyncio.timeout(20):
        while host.status("bad").state is not AppState.DEGRADED:
            await asyncio.sleep(0.01)
    assert "more than 200 frames a second" in host.status("bad").reason
    await world.until(lambda: bool(world.lines()))
    # The first second's worth is free; each frame had its answer.
    assert float(str(world.lines()[0])) >= (frames - per_s - 1) / per_s
