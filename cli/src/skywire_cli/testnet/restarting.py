"""`skywire testnet restart`: a process of a testnet started again by the process that all others hang on.

Whoever asks puts a file `restart` into the directory of the process; the launcher looks for such files, renames the one
that it takes to `restarting`, and removes it when the process runs or has failed, which the testnet's state tells then.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json
from skywire_cli.target import directory_option
from skywire_cli.testnet.state import ServiceState, State, Status, load

if TYPE_CHECKING:
    from skywire_cli.testnet.network import Testnet
    from skywire_cli.testnet.process import Service

WANTED, TAKEN = "restart", "restarting"
# A launcher looks this often; one that has not taken a request after so long looks for none.
LOOK_S = 0.2
TAKE_TIMEOUT = 10.0
# Every process may take its whole grace to end and its whole time to start.
DONE_TIMEOUT = 60.0


async def serve(net: Testnet) -> None:
    """Start again what is asked for, until cancelled."""
    while True:
        for service in net.services:
            try:
                taken = (service.directory / WANTED).rename(service.directory / TAKEN)
            except FileNotFoundError:
                continue
            try:
                await _restart(net, service)
            finally:
                taken.unlink(missing_ok=True)
        await asyncio.sleep(LOOK_S)


async def _restart(net: Testnet, service: Service) -> None:
    """Stop a process and start it again; its state says why it did not come back, if so."""
    await service.stop()
    try:
        await net.restart(service)
    except CliError:
        return  # it has put that into its state
    except OSError as error:
        service.change(status=Status.FAILED, reason=str(error))


@click.command(cls=JsonCommand)
@click.argument("process")
@directory_option
def restart(process: str, directory: Path) -> None:
    """Start a PROCESS again, for example node1, or 1 for that: ended if it runs, on the ports that it had."""
    found = _asked(directory, process)
    if json_wanted():
        print_json({"name": found.name, "pid": found.process.pid if found.process else 0, "status": found.status})
    else:
        click.echo(f"{found.name} runs again" + (f", pid {found.process.pid}" if found.process else ""))


def _asked(directory: Path, name: str) -> ServiceState:
    """Have the launcher restart a process and return how it is then; raises CliError."""
    name = _running(directory).process(name).name
    place = directory / name
    wanted, taken = place / WANTED, place / TAKEN
    wanted.touch()
    try:
        _until_gone(wanted, directory, TAKE_TIMEOUT, "whoever runs this testnet starts nothing again by a command")
    finally:
        wanted.unlink(missing_ok=True)
    _until_gone(taken, directory, DONE_TIMEOUT, f"{name} is not back")
    found = _running(directory).process(name)
    if found.status is not Status.READY:
        raise CliError("START_FAILED", f"{name} does not run: {found.reason}", f"its log: {found.log}")
    return found


def _until_gone(file: Path, directory: Path, timeout: float, else_say: str) -> None:
    until = time.monotonic() + timeout
    while file.exists():
        _running(directory)
        if time.monotonic() > until:
            raise CliError("DEADLINE", f"after {timeout:.0f} s {else_say}", f"its state: {directory}")
        time.sleep(LOOK_S / 4)


def _running(directory: Path) -> State:
    state = load(directory)
    if state is None or not state.running:
        raise CliError("NO_TESTNET", f"no testnet runs in {directory}", "skywire testnet up")
    return state
