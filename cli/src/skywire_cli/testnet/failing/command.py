"""`skywire testnet failures`, and `skywire testnet inflict`: tools that bring failures about where processes are not
ours, which is in containers (deploy/failures/).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path

import click
from skywire_common.errors import DecodeError
from skywire_common.keys import parse_host_port

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonCommand, JsonGroup
from skywire_cli.output import console, json_wanted, print_json, table
from skywire_cli.testnet.failing.profiles import PROFILES, Profile, document, profile
from skywire_cli.testnet.signals import stop_on_signals

# What a slow cable's sockets may hold, so that they do not hide what it does not pass.
_SLOW_BUFFERS = 32 * 1024


@click.command(cls=JsonCommand)
@click.argument("name", required=False)
def failures(name: str | None) -> None:
    """List the failures of `skywire testnet up --failure NAME`, or say all about one."""
    if name is not None:
        one = profile(name)
        if json_wanted():
            print_json(document(one))
        else:
            click.echo(described(one))
        return
    if json_wanted():
        print_json([document(one) for one in PROFILES])
    else:
        rows = ((one.name.value, one.brief) for one in PROFILES)
        console().print(table("failures", ("name", "what happens"), rows))


def described(one: Profile) -> str:
    """Return all about a profile, for people."""
    lines = [f"{one.name}: {one.brief}", f"  done: {one.done}", f"  undone: {one.undone}", "  look at:"]
    lines += [f"    {command}" for command in one.look]
    lines += ["  expected:", *(f"    - {sentence}" for sentence in one.during.values())]
    lines += ["  afterwards:", *(f"    - {sentence}" for sentence in one.after.values())]
    return "\n".join(lines)


class _Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT; `any_port`: port 0 is one that is free."""

    name = "host:port"

    def __init__(self, *, any_port: bool = False) -> None:
        self._any_port = any_port

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        text = str(value)
        if self._any_port and len(text) > 2 and text.endswith(":0"):
            return text[:-2], 0
        try:
            return parse_host_port(text)
        except DecodeError as error:
            self.fail(str(error), param, ctx)


class _Times(click.ParamType[tuple[float, float]]):
    name = "up,down"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        try:
            up, down = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value} is not two numbers of seconds", param, ctx)
        return up, down


@click.group(cls=JsonGroup)
def inflict() -> None:
    """Bring a failure about by hand, until SIGTERM or Ctrl-C: what deploy/failures uses in containers."""


@inflict.command()
@click.argument("listen", type=_Address(any_port=True), metavar="HOST:PORT")
@click.argument("target", type=_Address(), metavar="TARGET:PORT")
@click.option(
    "--delay", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="What passes is late, each way."
)
@click.option("--rate", type=click.FloatRange(1), metavar="BYTES", help="So much passes a second, each way.")
@click.option("--after", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Be a good cable until then.")
@click.option("--hold", is_flag=True, help="Nothing passes, and nobody is told.")
@click.option("--flap", type=_Times(), metavar="UP,DOWN", help="Seconds whole, seconds cut, and so on.")
def cable(
    listen: tuple[str, int],
    target: tuple[str, int],
    delay: float,
    rate: float | None,
    after: float,
    hold: bool,
    flap: tuple[float, float] | None,
) -> None:
    """Be a bad cable: pass what comes to HOST:PORT on to TARGET:PORT."""
    from skywire_cli.testnet.failing.cable import Cable

    async def run() -> None:
        buffers = _SLOW_BUFFERS if rate is not None else None
        async with Cable(lambda: f"{target[0]}:{target[1]}", buffers=buffers, listen=listen) as made:
            click.echo(f"{made.address} leads to {target[0]}:{target[1]}", err=True)
            await asyncio.sleep(after)
            for way in (made.there, made.back):
                way.delay, way.rate = delay, rate
                if hold:
                    way.hold()
            if flap is not None:
                await made.flap(None, *flap)
            await asyncio.get_running_loop().create_future()

    _until_told(run())


@inflict.command("slow-app")
@click.argument("app")
@click.option("--runs", type=click.FloatRange(0.001, 0.999), default=0.02, show_default=True, help="Of each second.")
def slow_app(app: str, runs: float) -> None:
    """Make the app that nodes on this machine (or in this container) run by this name slow."""
    from skywire_cli.testnet.failing.dawdling import dawdle, processes_of

    found = list(processes_of(app))
    if not found:
        raise CliError("NOT_FOUND", f"no app {app} runs here", "skywire node apps")

    async def run() -> None:
        await asyncio.gather(*(dawdle(process, runs) for process in found))

    _until_told(run())


@inflict.command()
@click.argument("directories", type=click.Path(path_type=Path, exists=True, file_okay=False), nargs=-1, required=True)
def fill(directories: tuple[Path, ...]) -> None:
    """Fill the file systems of DIRECTORIES to the last byte; refused unless each is smaller than 1 GiB."""
    from contextlib import ExitStack

    from skywire_cli.testnet.failing import filling

    large = [str(directory) for directory in directories if not filling.own(directory)]
    if large:
        raise CliError("REFUSED", f"{', '.join(large)}: others work on that file system", "one below 1 GiB is filled")

    async def run() -> None:
        with ExitStack() as full:
            for directory in directories:
                size = full.enter_context(filling.filled(directory))
                click.echo(f"{directory} is full, by {size} bytes", err=True)
            await asyncio.get_running_loop().create_future()

    _until_told(run())


def _until_told(work: Coroutine[None, None, None]) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, or until there is nothing left to do."""

    async def run() -> None:
        stop = asyncio.create_task(stop_on_signals(lambda: sys.exit(1)).wait())
        working = asyncio.create_task(work)
        await asyncio.wait((stop, working), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working

    asyncio.run(run())
