"""helloworld and filecopy as a node runs them: real processes, a local loop, what is left on disk and in the log."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from skywire_apps import filecopy_wire as wire
from skywire_apps.filecopy_send import _check_unchanged, _opened
from skywire_apps.filecopy_wire import BadTransfer, Offer, Verdict
from skywire_apps.helloworld import summary
from skywire_apps.identity import identity
from skywire_common.app_rules import NAME_VARIABLE, VERSION_VARIABLE
from skywire_node.apps.run import AppSpec, AppState
from unit.node.app_world import KEY, World, opened

BIN = Path(sys.executable).parent


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        (tmp_path / "bin").mkdir()
        yield made


def link(world: World, program: str, *names: str) -> None:
    for name in names:
        (world.folder / "bin" / f"{name}.v1.0").symlink_to(BIN / f"skywire-{program}")


async def run(world: World, name: str) -> tuple[str, list[dict[str, object]]]:
    """Run an app to its end; return how it ended and what it said as JSON."""
    assert world.host is not None
    world.logged.clear()
    world.host.start_app(name)
    await world.until_state(name, AppState.STOPPED)
    said = [json.loads(str(line)) for line in world.lines() if str(line).startswith("{")]
    return world.host.status(name).reason, said


async def test_helloworld_pings_and_measures(world: World) -> None:
    link(world, "helloworld", "helloworld", "pinger")
    options = ("--count", "50", "--size", "100", "--json", "--output", "result.json")
    host = world.make(
        AppSpec("helloworld", "1.0", port=10),
        AppSpec("pinger", "1.0", args=("--dial", f"{KEY}:10", *options)),
    )
    host.start_app("helloworld")
    await world.until_state("helloworld", AppState.READY)
    reason, said = await run(world, "pinger")
    assert reason == "exit code 0", world.lines()
    assert said[-1]["ok"] is True
    assert said[-1]["count"] == 50
    assert 0 < float(str(said[-1]["p50_us"])) <= float(str(said[-1]["p99_us"]))
    assert json.loads((world.folder / "local/pinger/v1.0/result.json").read_text()) == said[-1]
    assert (await host.stop_app("helloworld")).reason == "exit code 0: app helloworld was stopped"
    reason, said = await run(world, "pinger")
    assert reason.startswith("exit code 1")
    assert str(said[-1]["error"]).startswith("PORT_CLOSED: no app has port 10")


def test_an_app_goes_by_the_name_that_its_node_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/apps/backup.v2.1"])
    monkeypatch.delenv(NAME_VARIABLE, raising=False)
    assert identity("filecopy", "1.0") == ("backup", "2.1")
    monkeypatch.setenv(NAME_VARIABLE, "other")
    monkeypatch.setenv(VERSION_VARIABLE, "3")
    assert identity("filecopy", "1.0") == ("other", "3")


def test_summary_of_round_trips() -> None:
    fields = summary([index / 1e6 for index in range(100, 0, -1)])
    assert (fields["p50_us"], fields["p99_us"], fields["min_us"], fields["max_us"]) == (51, 100, 1, 100)


async def copying(world: World, file: Path, *options: str, folder: str = "inbox", size: str = "--overwrite") -> World:
    link(world, "filecopy", "filecopy", "sender")
    host = world.make(
        AppSpec("filecopy", "1.0", port=11, args=("receive", folder, *([size] if size else []))),
        AppSpec("sender", "1.0", args=("send", str(file), f"{KEY}:11", "--json", *options)),
    )
    host.start_app("filecopy")
    await world.until_state("filecopy", AppState.READY)
    return world


@pytest.mark.parametrize("size", [0, 1, 47_999, 5_000_001])
async def test_filecopy_copies_and_both_ends_agree(world: World, size: int) -> None:
    data = random.Random(size).randbytes(size)
    file = world.folder / "fïle.bin"
    file.write_bytes(data)
    await copying(world, file)
    reason, said = await run(world, "sender")
    assert reason == "exit code 0", world.lines()
    assert said[-1]["sha256"] == hashlib.sha256(data).hexdigest()
    inbox = world.folder / "local/filecopy/v1.0/inbox"
    assert (inbox / "fïle.bin").read_bytes() == data
    assert [path.name for path in inbox.iterdir()] == ["fïle.bin"]
    assert (await run(world, "sender"))[0] == "exit code 0", "a second time, over the first"


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "..", ".hidden", "a/b", "a\nb", "x" * 256, "a\\b", ""])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(BadTransfer):
        wire.decode_offer(wire.encode(Offer(name, 1))[wire.LENGTH_SIZE :])


async def test_the_sender_is_told_why_it_is_refused(world: World) -> None:
    file = world.folder / "data"
    file.write_bytes(bytes(1_000_000))
    await copying(world, file, size="")
    assert (await run(world, "sender"))[0] == "exit code 0"
    reason, said = await run(world, "sender")
    assert reason.startswith("exit code 4")
    assert said[-1]["error"] == "the other end refused: there is a file data already"
    assert said[-1]["code"] == "NAME_TAKEN"


async def test_a_full_disk_is_reported_to_the_sender(world: World) -> None:
    file = world.folder / "data"
    file.write_bytes(b"")
    free = os.statvfs(world.folder)
    os.truncate(file, min(15 << 40, 2 * free.f_bavail * free.f_frsize + 1))
    await copying(world, file)
    reason, said = await run(world, "sender")
    assert reason.startswith("exit code 4"), said
    assert "the disk is full" in str(said[-1]["error"])
    assert said[-1]["code"] == "DISK_FULL"


async def test_a_disk_that_fails_on_the_way_is_reported_and_leaves_nothing(world: World) -> None:
    # A limit on file sizes stands for a disk that ends in the middle; Python ignores the signal that comes with it.
    file = world.folder / "data"
    file.write_bytes(bytes(8_000_000))
    link(world, "filecopy", "sender")
    target = world.folder / "bin" / "filecopy.v1.0"
    target.write_text(
        f"#!{sys.executable}\n"
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))\n"
        "from skywire_apps.filecopy import main\n"
        "main()\n"
    )
    target.chmod(0o755)
    host = world.make(
        AppSpec("filecopy", "1.0", port=11, args=("receive", "inbox")),
        AppSpec("sender", "1.0", args=("send", str(file), f"{KEY}:11", "--json")),
    )
    host.start_app("filecopy")
    await world.until_state("filecopy", AppState.READY)
    reason, said = await run(world, "sender")
    assert reason.startswith("exit code 4"), said
    assert "cannot be written: File too large" in str(said[-1]["error"])
    assert list((world.folder / "local/filecopy/v1.0/inbox").iterdir()) == []


@pytest.mark.parametrize(
    ("make", "code", "said_of_it"),
    [
        (os.mkfifo, "NOT_A_FILE", "no regular file"),
        (Path.mkdir, "NOT_A_FILE", "no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "NOT_A_FILE", "no regular file"),
        (lambda path: path.symlink_to("nowhere"), "CANNOT_READ", "No such file"),
        # It has more bytes than its size says, as a log that is written to.
        (lambda path: path.symlink_to("/proc/version"), "FILE_CHANGED", "growing"),
    ],
)
async def test_what_cannot_be_copied_is_said_and_nothing_arrives(
    world: World, make: Callable[[Path], None], code: str, said_of_it: str
) -> None:
    file = world.folder / "odd"
    make(file)
    await copying(world, file)
    reason, said = await run(world, "sender")
    assert reason.startswith("exit code 6"), said
    assert (said[-1]["code"], said[-1]["ok"]) == (code, False)
    assert said_of_it in str(said[-1]["error"])
    await world.until(lambda: not any((world.folder / "local/filecopy/v1.0/inbox").iterdir()))


async def test_a_file_without_permission_is_said_to_be_so(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.touch()
    with _opened(file) as source:
        assert source.read() == b""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    file.chmod(0)
    with pytest.raises(PermissionError):
        _opened(file)


async def test_a_file_that_shrinks_on_its_way_leaves_nothing(world: World) -> None:
    file = world.folder / "data"
    file.write_bytes(b"")
    free = os.statvfs(world.folder)
    os.truncate(file, min(50 << 30, free.f_bavail * free.f_frsize // 2))
    await copying(world, file)
    assert world.host is not None
    world.host.start_app("sender")
    await world.until(lambda: any("progress" in str(line) for line in world.lines()))
    os.truncate(file, 1)
    await world.until(lambda: any("FILE_CHANGED" in str(line) for line in world.lines()))
    await world.until(lambda: not any((world.folder / "local/filecopy/v1.0/inbox").iterdir()))


def test_a_file_that_is_written_to_is_not_what_was_read(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"1234")
    with _opened(file) as source:
        before = os.fstat(source.fileno())
        source.read(4)
        _check_unchanged(source, before)
        os.utime(file, ns=(0, 1))
        with pytest.raises(BadTransfer, match="written to"):
            _check_unchanged(source, before)


async def test_a_sender_that_is_killed_leaves_nothing(world: World) -> None:
    file = world.folder / "data"
    file.write_bytes(b"")
    os.truncate(file, 50 << 30)
    await copying(world, file)
    assert world.host is not None
    inbox = world.folder / "local/filecopy/v1.0/inbox"
    free = os.statvfs(world.folder)
    if free.f_bavail * free.f_frsize < 50 << 30:
        os.truncate(file, free.f_bavail * free.f_frsize // 2)
    world.host.start_app("sender")
    await world.until(lambda: any("progress" in str(line) for line in world.lines()))
    os.kill(world.host.status("sender").pid, 9)
    await world.until(lambda: any("SIGKILL" in str(line) for line in world.lines()))
    assert list(inbox.iterdir()) == []


async def test_a_node_without_the_port_cannot_be_reached(world: World) -> None:
    file = world.folder / "data"
    file.write_bytes(b"x")
    link(world, "filecopy", "sender")
    world.make(AppSpec("sender", "1.0", args=("send", str(file), f"{KEY}:11", "--json")))
    reason, said = await run(world, "sender")
    assert reason.startswith("exit code 3")
    assert "PORT_CLOSED" in str(said[-1]["error"])


def test_what_the_ends_say_is_checked() -> None:
    for verdict in (Verdict(ok=True, name="a", size=1, sha256="00"), Verdict(ok=False, error="full")):
        encoded = wire.encode(verdict)
        assert wire.head_size(encoded[: wire.LENGTH_SIZE]) == len(encoded) - wire.LENGTH_SIZE
        assert wire.decode_verdict(encoded[wire.LENGTH_SIZE :]) == verdict
    for body in (b"", b"[]", b"{}", b"\xff", b'{"name":"a","size":-1}', b'{"name":"a","size":true}', b"[" * 4_000):
        with pytest.raises(BadTransfer):
            wire.decode_offer(body)
        with pytest.raises(BadTransfer):
            wire.decode_verdict(body)
    with pytest.raises(BadTransfer):
        wire.head_size((wire.MAX_HEAD + 1).to_bytes(4, "big"))


ARGUMENTS = {
    "helloworld": (),
    "chat": (),
    "filecopy send": ("send", __file__, f"{KEY}:1"),
    "filecopy receive": ("receive", "made"),
    "forward": ("listen", f"{KEY}:1"),
    "socksproxy": (),
    "socksproxy-client": (str(KEY), "--listen", "127.0.0.1:0"),
    "ssh": ("--node", str(KEY)),
    "ssh-client": (),
}


@pytest.mark.parametrize("program", ARGUMENTS)
def test_started_by_hand_an_app_says_so_and_leaves_nothing(program: str, tmp_path: Path) -> None:
    command = [BIN / f"skywire-{program.partition(' ')[0]}", *ARGUMENTS[program]]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path)
    assert failed.returncode == 2
    assert failed.stdout.count("\n") == 1 and "this app has to be started by a node" in failed.stdout
    assert not failed.stderr and not list(tmp_path.iterdir())
