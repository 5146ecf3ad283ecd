"""Processes named by pid and start time: signals reach that process or nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.process import shim_command

WAIT = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
)


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for child in started:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def start(children: list[subprocess.Popen[str]], *command: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    children.append(child)
    assert child.stdout is not None
    assert child.stdout.readline()
    return child


def test_process_is_alive_until_it_ends(children: list[subprocess.Popen[str]]) -> None:
    child = start(children, sys.executable, "-c", WAIT)
    named = ProcessId.of(child.pid)
    assert named is not None and named.alive
    assert named.end(grace=20)
    child.wait()
    assert child.returncode == -signal.SIGTERM
    assert not named.alive
    assert not named.end(grace=20)


def test_zombie_is_not_alive(children: list[subprocess.Popen[str]]) -> None:
    child = start(children, sys.executable, "-c", WAIT)
    named = ProcessId.of(child.pid)
    assert named is not None
    named.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not named.alive
    assert ProcessId.of(child.pid) is None


def test_process_that_ignores_sigterm_is_killed(children: list[subprocess.Popen[str]]) -> None:
    child = start(children, sys.executable, "-c", STUBBORN)
    named = ProcessId.of(child.pid)
    assert named is not None and named.end(grace=0.05)
    assert child.wait() == -signal.SIGKILL


def test_another_process_with_the_same_pid_is_left_alone(children: list[subprocess.Popen[str]]) -> None:
    child = start(children, sys.executable, "-c", WAIT)
    named = ProcessId.of(child.pid)
    assert named is not None
    earlier = named._replace(start_ticks=named.start_ticks - 1)
    assert not earlier.alive
    assert not earlier.end(grace=0)
    earlier.kill()
    assert child.poll() is None


def test_shim_becomes_the_program_and_keeps_the_pid(children: list[subprocess.Popen[str]]) -> None:
    command = [*shim_command(os.getpid()), sys.executable, "-c", "import os; print(os.getpid(), flush=True)"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    children.append(child)
    out, _ = child.communicate()
    assert int(out) == child.pid


def test_shim_does_not_start_under_another_parent(children: list[subprocess.Popen[str]]) -> None:
    command = [*shim_command(os.getppid()), sys.executable, "-c", "print('started')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""


def test_child_dies_with_a_launcher_that_is_killed(children: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "import os, signal, subprocess, sys\n"
        "from skywire_cli.testnet.process import shim_command\n"
        f"child = subprocess.Popen([*shim_command(os.getpid()), sys.executable, '-c', {WAIT!r}],\n"
        "                         start_new_session=True, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "signal.pause()\n"
    )
    parent = subprocess.Popen([sys.executable, str(launcher)], stdout=subprocess.PIPE, text=True)
    children.append(parent)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    pidfd = os.pidfd_open(grandchild)
    try:
        parent.kill()
        parent.wait()
        import select

        assert select.select([pidfd], [], [], 30)[0], "the grandchild outlived its launcher"
    finally:
        os.close(pidfd)
