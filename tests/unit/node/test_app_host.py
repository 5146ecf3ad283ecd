"""Apps as real processes over real pipes: start, speak, stop, crash, misbehave, leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire_common import appframes as af
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_node.apps.restart import LONGEST_DELAY_S, RestartPolicy, Restarts
from skywire_node.apps.run import AppSpec, AppState
from skywire_node.apps.session import AppSession
from unit.node.app_world import KEY, WIKI_ECHO, World, descriptors, opened


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


async def test_an_app_that_knows_only_the_wiki_echoes(world: World) -> None:
    world.app("echo", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("echo", "1.0", port=10, auto_start=True))
    host.start()
    await world.until_state("echo", AppState.READY)
    data = random.Random(8).randbytes(3_000_000)
    far = world.dial(10, data)
    other = world.dial(10, b"short", 50_001)
    assert await far.until(len(data)) == data
    assert await other.until(5) == b"short"
    assert host.status("echo").loops == 2
    assert {name for name, _ in host.loops()} == {"echo"}
    far.loop.close()
    assert await asyncio.wait_for(far.closed, 5) is None
    status = await host.stop_app("echo")
    assert (status.state, status.reason) == (AppState.STOPPED, "SIGTERM: app echo was stopped")
    reason = await asyncio.wait_for(other.closed, 5)
    assert reason is not None
    assert reason.code is ErrorCode.STOPPING
    assert str(KEY) in str(world.lines())
    assert host.ports.bound() == {}


async def test_an_app_gets_its_arguments_environment_directory_and_nothing_else(world: World) -> None:
    os.environ["SKYWIRE_SECRET_OF_THE_NODE"] = "x"
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    world.bad(
        """
print(json.dumps([sys.argv[1:], os.environ["MINE"], os.getcwd(), os.getpgid(0) == os.getpid(),
    sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
    [n for n in os.environ if "SECRET" in n]]), flush=True)
sys.stderr.write("on stderr, no newline")
""",
    )
    try:
        host = world.make(AppSpec("bad", "1", args=("a b", "$(c);'d"), env={"MINE": "é"}))
        host.start_app("bad")
        await world.until_state("bad", AppState.STOPPED)
    finally:
        os.close(leaked)
        del os.environ["SKYWIRE_SECRET_OF_THE_NODE"]
    assert host.status("bad").reason == "exit code 0"
    printed, note = world.lines()
    assert note == "on stderr, no newline"
    folder = str(world.folder / "local" / "bad" / "v1")
    assert json.loads(str(printed)) == [["a b", "$(c);'d"], "é", folder, True, [0, 1, 2, 3, 4], []]


async def test_garbage_closes_only_that_app_and_tells_it_why(world: World) -> None:
    world.app("echo", "1.0", WIKI_ECHO)
    world.bad(
        """
init(); os.read(3, 100)
frame(0x42, 9, b"junk")
print(os.read(3, 1000)); print(os.read(3, 1000))
""",
    )
    host = world.make(AppSpec("echo", "1.0", port=10, auto_start=True), AppSpec("bad", "1", port=11, auto_start=True))
    host.start()
    await world.until_state("echo", AppState.READY)
    far = world.dial(10, b"before")
    await far.until(6)
    await world.until_state("bad", AppState.STOPPED)
    assert "0x42" in host.status("bad").reason
    assert "there is no frame of type 0x42" in str(world.lines())
    assert "b''" in world.lines()
    far.rest = memoryview(b"after")
    far.on_writable()
    assert await far.until(11) == b"beforeafter"


async def test_a_killed_app_breaks_its_loops_with_the_signal_and_comes_back(world: World) -> None:
    world.app("echo", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("echo", "1.0", port=10, auto_start=True))
    host.start()
    await world.until_state("echo", AppState.READY)
    far = world.dial(10, b"x")
    await far.until(1)
    os.kill(host.status("echo").pid, 9)
    reason = await asyncio.wait_for(far.closed, 5)
    assert reason is not None
    assert (reason.code, "SIGKILL" in reason.cause) == (ErrorCode.LOOP_RESET, True)
    with pytest.raises(Failure) as caught:
        world.dial(10)
    assert caught.value.code is ErrorCode.PORT_CLOSED
    await world.until_state("echo", AppState.READY)
    assert host.status("echo").restarts == 1
    await world.dial(10, b"y").until(1)


async def test_children_that_keep_the_descriptors_go_with_the_app(world: World) -> None:
    world.bad(
        """
init(); os.read(3, 100)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)
print(child, flush=True)
os._exit(3)
""",
    )
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.STOPPED)
    assert host.status("bad").reason.startswith("exit code 3")
    child = int(str(world.lines()[0]))
    async with asyncio.timeout(5):
        while _alive(child):
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_an_app_that_ignores_sigterm_is_killed_after_the_grace(world: World) -> None:
    world.bad("signal.signal(15, signal.SIG_IGN); init(); os.read(3, 100)\nwhile True: time.sleep(60)\n")
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    status = await host.stop_app("bad", grace=0.1)
    assert status.reason == "SIGKILL: app bad was stopped"


async def test_an_app_that_closes_its_pipe_and_goes_on_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_node.apps.run.LEAVE_TIMEOUT_S", 0.1)
    world.bad("init(); os.read(3, 100); os.close(4); time.sleep(60)")
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.STOPPED)
    assert host.status("bad").reason == "SIGTERM: app bad closed its pipe and went on"


async def test_an_app_that_never_introduces_itself_is_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skywire_node.apps.run.INIT_TIMEOUT_S", 0.1)
    world.bad("time.sleep(60)")
    host = world.make(AppSpec("bad", "1"))
    host.start_app("bad")
    await world.until_state("bad", AppState.STOPPED)
    assert host.status("bad").reason == "SIGTERM: app bad did not introduce itself"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('b"\\x00\\x50\\x00\\x00{"', "did not introduce itself: it has begun a frame and written 5 bytes of 82"),
        ('b"\\x00"', "did not introduce itself: it has begun a frame and written 1 bytes of it"),
        ('b"hello, it is me"', "broke the protocol of its pipe: there is no frame of type 0x6c"),
        ('b"\\x00\\x50\\x03"', "broke the protocol of its pipe: SEND is no frame of an app that is in state INIT"),
    ],
)
async def test_an_app_that_writes_what_is_no_whole_frame_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch, written: str, said: str
) -> None:
    whole = "did not" not in said
    monkeypatch.setattr("skywire_node.apps.run.INIT_TIMEOUT_S", 60.0 if whole else 0.5)
    monkeypatch.setattr("skywire_node.apps.run.LEAVE_TIMEOUT_S", 0.1)
    world.bad(f"os.write(4, {written}); time.sleep(60)")
    host = world.make(AppSpec("bad", "1"))
    host.start_app("bad")
    await world.until_state("bad", AppState.STOPPED)
    assert host.status("bad").reason == f"SIGTERM: app bad {said}"


async def test_what_an_app_wrote_before_it_left_arrives(world: World) -> None:
    world.bad(
        """
init(); os.read(3, 100)
os.read(3, 1000); frame(0xFF, 0, b"null")
loop = {"port": 11, "remote": {"pk": "KEY", "port": 50000}}
for number in range(20):
    frame(3, number + 1, json.dumps({"addr": loop, "payload": "aGVsbG8="}).encode())
""".replace("KEY", str(KEY)),
    )
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    far = world.dial(11)
    assert await asyncio.wait_for(far.closed, 10) is None
    assert far.received == b"hello" * 20


async def test_apps_that_cannot_start_say_why_and_stop_no_other(world: World) -> None:
    world.app("echo", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("none", "1", port=12, auto_start=True), AppSpec("echo", "1.0", port=10, auto_start=True))
    host.start()
    await world.until_state("echo", AppState.READY)
    assert "no executable" in host.status("none").reason
    with pytest.raises(Failure, match="configured: none, echo"):
        host.start_app("other")
    with pytest.raises(Failure) as caught:
        world.dial(13)
    assert caught.value.code is ErrorCode.PORT_CLOSED
    assert host.set_auto_start("echo", False).auto_start is False


async def test_specs_that_contradict_each_other_are_refused(world: World) -> None:
    with pytest.raises(LocalError, match="a and b"):
        world.make(AppSpec("a", "1", port=10), AppSpec("b", "1", port=10))
    with pytest.raises(LocalError, match="twice"):
        world.make(AppSpec("a", "1"), AppSpec("a", "2"))
    with pytest.raises(Failure, match="name"):
        world.make(AppSpec("../a", "1"))
    with pytest.raises(Failure, match="reserved"):
        world.make(AppSpec("a", "1", port=1))


async def test_an_app_that_does_not_read_its_pipe_is_degraded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skywire_node.apps.run.STUCK_S", 0.0)
    world.bad("init(); os.read(3, 100); time.sleep(60)")
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    for caller in range(50_000, 50_003):
        world.dial(11, caller=caller)
    async with asyncio.timeout(5):
        while host.status("bad").state is not AppState.DEGRADED:
            await asyncio.sleep(0.01)
    assert "leaves 3 frames unanswered" in host.status("bad").reason


async def test_a_frozen_app_is_degraded_and_one_that_goes_on_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skywire_node.apps.run.STUCK_S", 0.2)
    (world.folder / "bin").mkdir()
    (world.folder / "bin" / "pong.v1.0").symlink_to(Path(sys.executable).parent / "skywire-helloworld")
    host = world.make(AppSpec("pong", "1.0", port=10))
    host.start_app("pong")
    await world.until_state("pong", AppState.READY)
    far = world.dial(10, b"ping")
    assert await far.until(4) == b"pong"
    pid = host.status("pong").pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.3)
        assert host.status("pong").state is AppState.READY  # nobody wants anything of it
        far.rest = memoryview(b"ping")
        far.on_writable()
        async with asyncio.timeout(5):
            while host.status("pong").state is not AppState.DEGRADED:
                await asyncio.sleep(0.01)
        assert "leaves a frame unanswered" in host.status("pong").reason
    finally:
        os.kill(pid, signal.SIGCONT)
    await far.until(8)
    async with asyncio.timeout(5):
        while host.status("pong").state is not AppState.READY:
            await asyncio.sleep(0.01)


async def test_an_app_whose_reader_pauses_is_not_degraded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skywire_node.apps.run.STUCK_S", 0.5)
    monkeypatch.setattr("skywire_node.apps.run.KNOCK_EVERY_S", 0.05)
    world.app(
        "pausing",
        "1",
        f"""#!{sys.executable}
import asyncio
from skywire_app import App
async def main():
    async with App.setup("pausing", "1") as app, await app.accept():
        await asyncio.sleep(60)
asyncio.run(main())
""",
    )
    host = world.make(AppSpec("pausing", "1", port=10))
    host.start_app("pausing")
    await world.until_state("pausing", AppState.READY)
    world.dial(10, b"film" * 500_000)
    session = next(host.loops())[1]._pipe
    assert isinstance(session, AppSession)
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(10):
        while not session.unanswered(now() - 1.0)[0]:
            await asyncio.sleep(0.02)
    assert host.status("pausing").state is AppState.READY
    os.kill(host.status("pausing").pid, signal.SIGSTOP)
    async with asyncio.timeout(5):
        while host.status("pausing").state is not AppState.DEGRADED:
            await asyncio.sleep(0.02)


async def test_an_app_that_exits_well_in_the_middle_of_a_frame_has_not_said_all(world: World) -> None:
    world.bad(
        """
init(); os.read(3, 100)
os.read(3, 1000); frame(0xFF, 0, b"null")
loop = {"port": 11, "remote": {"pk": "KEY", "port": 50000}}
body = json.dumps({"addr": loop, "payload": "aGVsbG8="}).encode()
frame(3, 1, body)
os.write(4, (struct.pack(">HBB", len(body) + 2, 3, 2) + body)[:60])
""".replace("KEY", str(KEY)),
    )
    host = world.make(AppSpec("bad", "1", port=11))
    host.start_app("bad")
    await world.until_state("bad", AppState.READY)
    far = world.dial(11)
    reason = await asyncio.wait_for(far.closed, 10)
    assert far.received == b"hello"
    assert reason is not None and "ended with exit code 0: " in reason.cause


async def test_starting_and_stopping_many_times_leaves_nothing(world: World) -> None:
    world.app("echo", "1.0", WIKI_ECHO)
    host = world.make(AppSpec("echo", "1.0", port=10))
    opened: set[str] = set()
    counts = set()
    for _ in range(10):
        host.start_app("echo")
        await world.until_state("echo", AppState.READY)
        await world.dial(10, b"x").until(1)
        await host.stop_app("echo")
        # Another test's garbage may go in the meantime, with its descriptors.
        assert not opened or descriptors() <= opened
        opened = opened or descriptors()
        counts.add((len(asyncio.all_tasks()), len(host.ports.bound())))
    assert len(counts) == 1


def test_restarts_follow_the_policy_and_back_off() -> None:
    never, failing, always = (Restarts(policy) for policy in RestartPolicy)
    assert never.after(in_order=False, ran_s=0, jitter=1) is None
    assert failing.after(in_order=True, ran_s=0, jitter=1) is None
    assert always.after(in_order=True, ran_s=0, jitter=1) == 1
    delays = [failing.after(in_order=False, ran_s=0, jitter=1) for _ in range(50)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == LONGEST_DELAY_S
    assert failing.after(in_order=False, ran_s=60, jitter=0.5) == 0.5
    failing.forget()
    assert failing.after(in_order=False, ran_s=0, jitter=1) == 1
    assert failing.count == 52


def test_frames_of_the_echo_are_the_wikis() -> None:
    assert "skywire" not in WIKI_ECHO.read_text()
    assert len(WIKI_ECHO.read_text().splitlines()) < 70
    assert af.PROTOCOL_VERSION in WIKI_ECHO.read_text()
