"""One process of a testnet, with small real programs in the place of services."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from skywire_cli.failures import CliError, Exit
from skywire_cli.testnet.process import READY_FILE, Service
from skywire_cli.testnet.state import Kind, ServiceState, Status

READY = """
import json, os, pathlib, signal, sys
ready = pathlib.Path(sys.argv[sys.argv.index("--ready-file") + 1])
print("settings:", sorted(name for name in os.environ if name.startswith("SKYWIRE_")), flush=True)
def become_ready():
    draft = ready.with_name("draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "public_key": "", "interfaces": {"grpc": "127.0.0.1:7"}}))
    draft.replace(ready)
def stop(*_): sys.exit(0)
signal.signal(signal.SIGTERM, stop)
"""
PROGRAMS = {
    "good": READY + "become_ready()\nwhile True: signal.pause()\n",
    "stubborn": READY + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nbecome_ready()\nwhile True: signal.pause()\n",
    "slow": READY + "while True: signal.pause()\n",
    "broken": "import sys; sys.exit('the config is wrong')\n",
}


class Started:
    """A service that runs one of the programs, and every state it went through."""

    def __init__(self, directory: Path, program: str) -> None:
        (directory / f"{program}.py").write_text(PROGRAMS[program])
        self.states: list[ServiceState] = []
        self.service = Service("it", Kind.DISCOVERY, program, directory, lambda: self.states.append(self.service.state))
        self.service.configure({})

    @property
    def seen(self) -> list[Status]:
        return [state.status for state in self.states]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[list[Service]]:
    services: list[Service] = []
    yield services
    for service in services:
        await service.kill()


async def test_service_is_ready_when_it_says_so_and_stops_in_order(tmp_path: Path, run: list[Service]) -> None:
    started = Started(tmp_path, "good")
    service = started.service
    run.append(service)
    await service.start()
    assert service.interfaces == {"grpc": "127.0.0.1:7"}
    assert service.state.process is not None and service.state.process.alive
    assert os.getsid(service.pid) == service.pid, "Ctrl-C would reach it"
    process = service.state.process
    assert await service.stop() == 0
    assert not process.alive
    assert service.state.reason == "exit code 0"
    assert started.seen == [Status.STARTING, Status.READY, Status.STOPPING, Status.STOPPED]
    assert await service.stop() is None
    await service.start()
    assert service.state.status is Status.READY


async def test_settings_of_the_environment_do_not_overrule_configs(
    tmp_path: Path, run: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKYWIRE_LOG_LEVEL", "debug")
    monkeypatch.setenv("SKYWIRE_LOOP", "asyncio")
    service = Started(tmp_path, "good").service
    run.append(service)
    await service.start()
    assert "settings: ['SKYWIRE_LOOP']" in service.log


async def test_service_that_ends_while_starting_says_why(tmp_path: Path, run: list[Service]) -> None:
    service = Started(tmp_path, "broken").service
    run.append(service)
    with pytest.raises(CliError, match="ended while starting") as caught:
        await service.start()
    assert caught.value.status is Exit.NOT_READY
    assert "the config is wrong" in str(caught.value.details["log"])
    assert service.state.status is Status.FAILED


async def test_service_that_is_never_ready_is_given_up(tmp_path: Path, run: list[Service]) -> None:
    service = Started(tmp_path, "slow").service
    run.append(service)
    with pytest.raises(CliError, match="not ready within"):
        await service.start(timeout=0.3)


async def test_service_that_ignores_sigterm_is_killed(tmp_path: Path, run: list[Service]) -> None:
    service = Started(tmp_path, "stubborn").service
    run.append(service)
    await service.start()
    assert await service.stop(grace=0.1) == -signal.SIGKILL


async def test_death_is_noticed(tmp_path: Path, run: list[Service]) -> None:
    started = Started(tmp_path, "good")
    run.append(started.service)
    await started.service.start()
    await started.service.kill()
    assert started.seen[-1] is Status.FAILED
    assert started.states[-1].reason == "SIGKILL"
    with pytest.raises(CliError, match="does not run"):
        _ = started.service.pid
    assert (tmp_path / READY_FILE).exists()


def test_service_whose_directory_is_gone_says_what_to_do(tmp_path: Path) -> None:
    service = Service("it", Kind.DISCOVERY, "good", tmp_path / "gone", lambda: None)
    with pytest.raises(CliError, match="no directory any more") as caught:
        service.configure({})
    assert "testnet down" in caught.value.hint


async def test_frozen_service_goes_on(tmp_path: Path, run: list[Service]) -> None:
    service = Started(tmp_path, "good").service
    run.append(service)
    await service.start()
    service.pause()
    stopped = os.waitid(os.P_PID, service.pid, os.WSTOPPED | os.WNOWAIT)
    assert stopped is not None and stopped.si_status == signal.SIGSTOP
    service.resume()
    assert await service.stop() == 0
