"""The main of a service, as a real process: readiness, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from skywire_common.curve import SecretKey

SERVICE = Path(__file__).with_name("tiny_service.py")
WAIT_S = 30


class Service:
    """One process with its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.secret = SecretKey.generate()
        self.key_file = directory / "key"
        self.key_file.touch(mode=0o600)
        self.key_file.write_text(self.secret.to_bytes().hex())
        self.ready_file = directory / "ready.json"
        self.log_file = directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, environment: dict[str, str] | None = None, **settings: Any) -> subprocess.Popen[bytes]:
        config = self.directory / "config.json"
        config.write_text(json.dumps({"secret_key_file": str(self.key_file), **settings}))
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, SERVICE, "--config", config, "--ready-file", self.ready_file],
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "SKYWIRE_LOOP": "", **(environment or {})},
            )
        return self.process

    def ready(self) -> dict[str, Any]:
        self.until(self.ready_file.exists)
        return dict(json.loads(self.ready_file.read_text()))

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log_file.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def logged(self, event: str) -> Callable[[], bool]:
        return lambda: any(line.get("event") == event for line in self.lines())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]

    def exit_code(self) -> int:
        assert self.process is not None
        out, _ = self.process.communicate(timeout=WAIT_S)
        assert out == b"", "standard output is not for logs"
        return self.process.returncode


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


@pytest.mark.parametrize(
    ("choice", "module", "number"),
    [("", "uvloop", signal.SIGTERM), ("uvloop", "uvloop", signal.SIGINT), ("asyncio", "asyncio", signal.SIGTERM)],
)
def test_a_service_says_when_it_is_ready_and_ends_in_order(
    service: Service, choice: str, module: str, number: int
) -> None:
    process = service.start(environment={"SKYWIRE_LOOP": choice})
    ready = service.ready()
    assert ready.pop("interfaces").pop("loop").startswith(module)
    assert ready == {"pid": process.pid, "public_key": str(service.secret.public)}
    process.send_signal(number)
    assert service.exit_code() == 0
    assert [line["event"] for line in service.lines()] == ["starting", "ready", "stopping", "closed", "stopped"]
    assert service.lines()[3]["collecting_garbage"], "only the start goes without"
    assert not service.ready_file.exists()
    assert sorted(path.name for path in service.directory.iterdir()) == ["config.json", "key", "log"]
    assert service.secret.to_bytes().hex() not in service.log_file.read_text()


def test_an_old_ready_file_is_not_believed(service: Service) -> None:
    service.ready_file.write_text('{"pid": 1}')
    process = service.start(mode="never starts")
    service.until(service.logged("starting"))
    service.until(lambda: not service.ready_file.exists())
    process.terminate()
    assert service.exit_code() == 0, "a service that is told to end while it starts, ends"
    assert service.lines()[-2]["event"] == "closed"


def test_a_second_signal_ends_at_once(service: Service) -> None:
    process = service.start(mode="closer hangs", grace_s=600)
    service.ready()
    process.terminate()
    service.until(service.logged("stopping"))
    process.terminate()
    assert service.exit_code() == 128 + signal.SIGTERM


def test_what_hangs_is_left_when_the_grace_is_over(service: Service) -> None:
    process = service.start(mode="closer hangs", grace_s=0.2)
    service.ready()
    process.terminate()
    assert service.exit_code() == 0
    assert [line["event"] for line in service.lines()][-3:] == [
        "the grace is over before all is closed",
        "closed",
        "stopped",
    ]


def test_a_thread_that_hangs_does_not_keep_the_process(service: Service) -> None:
    process = service.start(mode="thread hangs", grace_s=0.2)
    service.ready()
    process.terminate()
    assert service.exit_code() == 1
    assert service.lines()[-1]["event"] == "does not end by itself"


@pytest.mark.parametrize(
    ("mode", "code", "said"),
    [
        ("task dies", 1, "nobody expected this"),
        ("fails", 1, "CONFLICT: the port is taken"),
        ("breaks", 1, "nobody expected this"),
        ("misconfigured", 2, "the database is of another kind"),
    ],
)
def test_what_breaks_ends_the_service_loudly(service: Service, mode: str, code: int, said: str) -> None:
    service.start(mode=mode)
    assert service.exit_code() == code
    (line,) = [line for line in service.lines() if line["level"] in ("error", "critical")]
    assert said in line.get("reason", "") + line.get("exception", "")
    assert service.logged("closed")(), "what was opened is closed all the same"
    assert service.lines()[-1]["exit_code"] == code
    assert not service.ready_file.exists()


def test_a_wrong_configuration_is_one_line_for_people(service: Service) -> None:
    service.start(mod="serves")
    assert service.exit_code() == 2
    assert service.log_file.read_text() == (
        f"skywire-tiny: {service.directory}/config.json: no key mod; the nearest is mode\n"
    )


def test_a_key_that_others_may_read_is_refused(service: Service) -> None:
    service.key_file.chmod(0o644)
    service.start()
    assert service.exit_code() == 2
    assert "chmod 600" in service.log_file.read_text()


def test_a_loop_that_does_not_exist_is_refused(service: Service) -> None:
    service.start(environment={"SKYWIRE_LOOP": "trio"})
    assert service.exit_code() == 2
    assert "SKYWIRE_LOOP is uvloop or asyncio" in service.log_file.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, "skywire-tiny 0.1.0"),
        (["--help"], 0, "--ready-file FILE"),
        (["--config", "/nowhere/config.json"], 2, "skywire-tiny: /nowhere/config.json: No such file or directory"),
        (["--confg", "x"], 2, "unrecognized arguments"),
    ],
)
def test_the_command_line(arguments: list[str], code: int, said: str) -> None:
    ran = subprocess.run(
        [sys.executable, SERVICE, *arguments], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert ran.returncode == code
    assert said in ran.stdout + ran.stderr
