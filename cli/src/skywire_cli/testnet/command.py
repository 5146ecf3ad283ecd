"""`skywire testnet up|down|logs`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skywire_cli.failures import CliError
from skywire_cli.lazy import JsonGroup
from skywire_cli.log_level import LEVELS
from skywire_cli.nearest import named
from skywire_cli.output import json_wanted, print_json, visible
from skywire_cli.target import CONFIG_FILE, directory_option
from skywire_cli.testnet.failing.command import described, failures, inflict
from skywire_cli.testnet.failing.profiles import PROFILES, profile
from skywire_cli.testnet.plan import MAX_NODES, MAX_SETUP_NODES, Topology
from skywire_cli.testnet.restarting import restart
from skywire_cli.testnet.signals import stop_on_signals
from skywire_cli.testnet.state import STATE_FILE, State, Status, load
from skywire_cli.testnet.status import status

if TYPE_CHECKING:
    from skywire_cli.testnet.failing.breaking import Breaking
    from skywire_cli.testnet.network import Testnet

# Every process may use its whole grace, one group after the other.
_DOWN_GRACE = 60.0
_POLL = 0.05


@click.group(cls=JsonGroup)
def testnet() -> None:
    """Run a whole network on this machine: discovery, setup nodes, nodes, each a process of its own."""


testnet.add_command(restart)
testnet.add_command(status)
testnet.add_command(failures)
testnet.add_command(inflict)


@testnet.command()
@click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=4, show_default=True, help="How many nodes.")
@click.option(
    "--topology",
    type=click.Choice([topology.value for topology in Topology]),
    default=Topology.LINE.value,
    show_default=True,
    help="How they are linked.",
)
@click.option("--setup-nodes", type=click.IntRange(1, MAX_SETUP_NODES), default=1, show_default=True, help="How many.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info")
@click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="'NAME@NODE:PORT[=PROGRAM] [ARGUMENT...]'",
    help="An app that starts with its node; without PROGRAM the one of that name that ships.",
)
@click.option(
    "--idle-app",
    "idle_apps",
    multiple=True,
    metavar="'NAME@NODE:PORT[=PROGRAM] [ARGUMENT...]'",
    help="One that waits for `skywire node apps start`.",
)
@click.option(
    "--failure",
    type=click.Choice([one.name.value for one in PROFILES]),
    help="Have this fail once all is up; `skywire testnet failures` says what each is. Without other wishes the "
    "network is a diamond of four with two setup nodes, and pings go across it.",
)
@click.option(
    "--failure-for", type=click.FloatRange(0), metavar="SECONDS", help="Undo it after so long [default: at the end]."
)
@click.option("--keep", is_flag=True, help="Keep keys, databases and logs when it goes down.")
@click.option("--detach", is_flag=True, help="Return when everything is up and leave it running.")
@click.option("--launcher", is_flag=True, hidden=True, help="Be the process that a detached testnet hangs on.")
@directory_option
@click.pass_context
def up(context: click.Context, /, detach: bool, launcher: bool, directory: Path, **shape: Any) -> None:
    """Start a network and show it until Ctrl-C, then take it down. Everything lies in one directory."""
    failure, lasting = shape.pop("failure"), shape.pop("failure_for")
    if failure and not launcher and not json_wanted():
        click.echo(described(profile(failure)))
    if detach:
        _detach(directory, failure or "")
        return
    net, breaking = _make(context, directory, failure, **shape)
    asyncio.run(_run(net, directory if launcher else None, breaking, lasting))


@testnet.command()
@directory_option
def down(directory: Path) -> None:
    """End a testnet, its own processes only, and remove its files, the kept ones if it does not run any more."""
    from skywire_cli.testnet.cleaning import clean

    state = load(directory)
    if state is None:
        raise _no_testnet(directory)
    ended = state.running and state.launcher.end(_DOWN_GRACE)
    left = load(directory)
    if left is not None and not (ended and left.keep):
        clean(directory, left, everything=True)
    kept = (directory / STATE_FILE).exists()
    if json_wanted():
        print_json({"ended": ended, "kept": kept})
    else:
        said = "ended" if ended else "did not run"
        click.echo(f"testnet in {directory} {said}{', its files are kept' if kept else ', its files are removed'}")


@testnet.command()
@click.argument("process")
@click.option("--app", help="Only what this app printed.")
@directory_option
def logs(process: str, app: str | None, directory: Path) -> None:
    """Print the log of a PROCESS, for example node1, or 1 for that, or what one of its apps printed."""
    state = load(directory)
    if state is None:
        raise _no_testnet(directory)
    found = state.process(process)
    if app is not None:
        check_app(app, Path(found.log))
    text = Path(found.log).read_text(errors="replace")
    for line in text.splitlines() if app is None else printed_by(app, text):
        click.echo(json.dumps(line) if json_wanted() and app is not None else visible(line))


def _no_testnet(directory: Path) -> CliError:
    hint = "`skywire testnet up` starts one; one that lies elsewhere is named by --dir"
    return CliError("NO_TESTNET", f"there is no testnet in {directory}", hint)


def check_app(app: str, log: Path) -> None:
    """Raise CliError unless the configuration beside the log of a testnet's process has an app of this name."""
    try:
        document = json.loads((log.parent / CONFIG_FILE).read_text())
    except FileNotFoundError:
        document = {}  # it never started
    known = [str(one["app"]) for one in document.get("apps", ())]
    if app not in known:
        raise CliError("NOT_FOUND", f"{log.stem} has no app {app}", named(app, known, "apps"))


def printed_by(app: str, log: str) -> list[str]:
    """Return the lines that an app printed, from the log of its node."""
    found = []
    for line in log.splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # not the logger's: the interpreter's last words, perhaps
            continue
        if isinstance(record, dict) and record.get("app") == app and "line" in record:
            found.append(str(record["line"]))
    return found


def _make(
    context: click.Context,
    directory: Path,
    failure: str | None,
    nodes: int,
    topology: str,
    setup_nodes: int,
    log_level: str,
    keep: bool,
    apps: Sequence[str],
    idle_apps: Sequence[str],
) -> tuple[Testnet, Breaking | None]:
    """Plan the network that the options of `up` ask for, with what a failure needs where they say nothing."""
    from skywire_cli.testnet import app_option
    from skywire_cli.testnet.network import Testnet
    from skywire_cli.testnet.plan import plan

    parsed = [app_option.parse(text, auto_start=True) for text in apps]
    parsed += [app_option.parse(text, auto_start=False) for text in idle_apps]
    by_node, breaking = app_option.by_node(parsed), None
    if failure is not None:
        from skywire_cli.testnet.failing import breaking as how

        wished = {
            name
            for name in ("nodes", "topology", "setup_nodes")
            if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        }
        nodes = nodes if "nodes" in wished else how.NODES
        topology = topology if "topology" in wished else how.TOPOLOGY.value
        setup_nodes = setup_nodes if "setup_nodes" in wished else how.SETUP_NODES
        by_node = by_node or dict(how.traffic(profile(failure), nodes))
    planned = plan(nodes, Topology(topology), setup_nodes, by_node, log_level)
    if failure is not None:
        breaking = how.Breaking(profile(failure), planned)
        planned = breaking.plan
    net = Testnet(planned, directory, shape=f"{topology} of {nodes}", keep=keep)
    if breaking is not None:
        breaking.of(net)
    return net, breaking


async def _run(net: Testnet, detached: Path | None, breaking: Breaking | None, lasting: float | None) -> None:
    """Bring it up, wait for a signal, take it down; a second signal kills what is left."""
    from skywire_cli.testnet.cleaning import LAUNCHER_LOG
    from skywire_cli.testnet.view import Screen

    stop = stop_on_signals(net.kill_all)
    quiet = detached is not None or json_wanted()
    async with AsyncExitStack() as inside:
        screen = inside.enter_context(nullcontext() if quiet else Screen(attached=True))
        if screen is not None:
            net.follow(screen.show)
        if breaking is not None:
            await inside.enter_async_context(breaking)
        rising = asyncio.create_task(_rise(net, breaking))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((rising, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not rising.done():
            rising.cancel()
            await asyncio.wait((rising,))
            raise _interrupted()
        try:
            await rising
            if detached is not None:
                _write_to(detached / LAUNCHER_LOG)
            elif quiet:
                print_json(net.state.document())
            watching = asyncio.create_task(_watch(net, breaking, lasting))
            await asyncio.wait((stopping, watching), return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            await asyncio.wait((watching,))
        finally:
            stopping.cancel()
            if breaking is not None:
                await breaking.abandon()
            await net.down()


async def _rise(net: Testnet, breaking: Breaking | None) -> None:
    """Bring it up and have fail what shall; raises CliError, and then nothing is left running."""
    await net.up()
    if breaking is None:
        return
    try:
        await breaking.begin()
    except BaseException as error:
        await breaking.abandon()
        await net.down(str(error))
        raise


async def _watch(net: Testnet, breaking: Breaking | None, lasting: float | None) -> None:
    """Keep the state true, and undo the failure when its time is over."""
    from skywire_cli.testnet.watching import watch

    watching = asyncio.create_task(watch(net))
    try:
        if breaking is not None and lasting is not None:
            await asyncio.sleep(lasting)
            await breaking.end()
        await watching
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


def _write_to(log: Path) -> None:
    """Let go of the terminal: whatever the launcher still has to say goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)


def _detach(directory: Path, failure: str) -> None:
    """Start this command again as a session of its own, and wait until its testnet is up."""
    line = [argument for argument in sys.argv[1:] if argument not in ("--detach", "--json")]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "skywire_cli", *line, "--json", "--launcher"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        state = _follow(launcher, directory, failure)
    except KeyboardInterrupt:
        _end(launcher)
        raise _interrupted() from None
    except BaseException:
        _end(launcher)
        raise
    if json_wanted():
        print_json(state.document())


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Have a launcher take down what it has started, and wait until that is done."""
    launcher.terminate()
    launcher.wait()


def _interrupted() -> CliError:
    return CliError("INTERRUPTED", "interrupted, and nothing is left running")


def _follow(launcher: subprocess.Popen[bytes], directory: Path, failure: str) -> State:
    """Show the state until it is up and fails as it shall; raises the launcher's error if it ends before."""
    from skywire_cli.testnet.view import Screen

    with nullcontext() if json_wanted() else Screen(attached=False) as screen:
        while True:
            ended = launcher.poll() is not None
            state = load(directory)
            if ended:
                raise _error_of(launcher)
            if state is not None and state.launcher.pid == launcher.pid:
                if screen is not None:
                    screen.show(state)
                if state.status is Status.READY and state.failure == failure:
                    return state
            time.sleep(_POLL)


def _error_of(launcher: subprocess.Popen[bytes]) -> CliError:
    said = launcher.stderr.read().decode(errors="replace") if launcher.stderr is not None else ""
    try:
        error = json.loads(said.splitlines()[-1])
        return CliError(error["code"], error["message"], error["hint"], error["details"])
    except (ValueError, IndexError, KeyError, TypeError):
        return CliError("START_FAILED", f"the launcher ended: {said.strip() or launcher.returncode}")
