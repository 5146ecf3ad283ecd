"""`skywire demo`: the whole system in a minute, checked."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from skywire_common.errors import SkywireError

from skywire_cli.failures import CliError, Exit, explain
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import console, json_wanted, print_json, size, table
from skywire_cli.paths import NamedPath
from skywire_cli.testnet.plan import Topology

if TYPE_CHECKING:
    from skywire_cli.demo.outcome import Check, Outcome, Sent

MIB = 1 << 20
# MiB; of less nobody would see the half.
LEAST_TO_BREAK = 16
# Whoever ran it, or the machine, is at fault: nothing is said about the network.
_NOT_OF_THE_DEMO = (Exit.INTERRUPTED, Exit.USAGE, Exit.CONFLICT, Exit.MACHINE)


@click.command(cls=JsonCommand)
@click.option("--size", "mebibytes", type=click.IntRange(1), default=256, show_default=True, help="MiB of the file.")
@click.option("--pings", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--nodes", type=click.IntRange(2, 32), default=4, show_default=True, help="How many.")
@click.option(
    "--topology",
    type=click.Choice([Topology.DIAMOND.value, Topology.LINE.value]),
    default=Topology.DIAMOND.value,
    show_default=True,
    help="A diamond whose nodes are killed on the way, or a line of which all live.",
)
@click.option("--dir", "directory", type=NamedPath(file_okay=False), help="Where [default: a temporary one].")
@click.option("--keep", is_flag=True, help="Keep configs, logs and files for a look afterwards.")
def demo(mebibytes: int, pings: int, nodes: int, topology: str, directory: Path | None, keep: bool) -> int:
    """Send a file through a diamond of nodes and kill the one in use half-way; ping, and kill a setup node; then send
    once more with a standby route, kill the node in use and have no setup node help.

    Exit code 1 unless the files arrived whole and nothing is left on any node.

    Every process is real. Nothing stays behind, also after Ctrl-C.
    """
    from skywire_cli.demo.outcome import Outcome, checks
    from skywire_cli.demo.run import run
    from skywire_cli.demo.steps import Steps

    breaks = topology == Topology.DIAMOND
    if breaks and mebibytes < LEAST_TO_BREAK:
        raise click.UsageError(f"in a diamond a node is killed half-way, so --size is at least {LEAST_TO_BREAK}")
    outcome = Outcome(mebibytes * MIB, pings=pings, topology=topology, breaks=breaks)
    failure: CliError | None = None
    try:
        asyncio.run(run(outcome, nodes, directory, keep, Steps(quiet=json_wanted())))
    except SkywireError as error:
        failure = explain(error)
    except CliError as error:
        if error.status in _NOT_OF_THE_DEMO:
            raise
        failure = error
    found = checks(outcome)
    if json_wanted():
        print_json(_document(outcome, found, failure))
    else:
        _print(outcome, found)
    if failure is not None:
        details = {"code": failure.code, **failure.details}
        raise CliError("DEMO_FAILED", failure.message, failure.hint, details) from failure
    return Exit.OK if all(check.holds for check in found) else Exit.CHECK_FAILED


def _document(outcome: Outcome, found: list[Check], failure: CliError | None) -> dict[str, object]:
    return {
        "passed": failure is None and all(check.holds for check in found),
        **asdict(outcome),
        **_figures_of(outcome),
        "standby": None if outcome.standby is None else asdict(outcome.standby) | _figures_of(outcome.standby),
        "checks": [check._asdict() for check in found],
    }


def _figures_of(sent: Sent) -> dict[str, object]:
    return {
        "megabytes_per_s": sent.megabytes_per_s,
        "route": [hop._asdict() for hop in sent.route],
        "second_route": [hop._asdict() for hop in sent.second_route],
    }


def _print(outcome: Outcome, found: list[Check]) -> None:
    from skywire_cli.demo.outcome import TARGET_PAUSE, TARGET_STANDBY_PAUSE

    out = console()
    routes = [("the loop's route", outcome.route), ("its route afterwards", outcome.second_route)]
    if outcome.standby is not None:
        routes += [
            ("the second loop's route", outcome.standby.route),
            ("its standby route, which took over", outcome.standby.second_route),
        ]
    for title, route in routes:
        if route:
            out.print(table(title, ("direction", "node", "rule"), route))
    nodes = [(name, outcome.forwarded.get(name, ""), *_left(outcome, name)) for name in sorted(outcome.forwarded)]
    if nodes:
        out.print(table("nodes", ("node", ">packets forwarded", ">rules left", ">loops left"), nodes))
    figures = [("file", size(outcome.size)), *_figures(outcome, TARGET_PAUSE, "a setup node finds another route")]
    if outcome.standby is not None:
        figures.append(("second file", size(outcome.standby.size)))
        figures += _figures(outcome.standby, TARGET_STANDBY_PAUSE, "a standby route takes over, no setup node runs")
    figures += [
        ("round trip p50", _microseconds(outcome.round_trip_p50_us)),
        ("round trip p99", _microseconds(outcome.round_trip_p99_us)),
    ]
    out.print(table("figures", ("", ""), figures))
    out.print(
        table("checks", ("", "", "found"), [("ok" if check.holds else "NOT SO", *_rest(check)) for check in found])
    )


def _figures(sent: Sent, target: float, how: str) -> list[tuple[str, str]]:
    from skywire_cli.demo.outcome import LONGEST_PAUSE

    speed = sent.megabytes_per_s
    figures = [("  transfer", f"{sent.transfer_s:.2f} s, {speed:.0f} MB/s")] if sent.transfer_s and speed else []
    if sent.killed:
        pause = "not seen" if sent.pause_s is None else f"{sent.pause_s:.2f} s"
        figures += [
            ("  pause", f"{pause} (target {target} s, {sent.held_to(target)}: {how})"),
            ("  checked", f"under {LONGEST_PAUSE:.0f} s; the target is for a quiet machine"),
            ("  sent again", size(sent.resent)),
        ]
    return figures


def _left(outcome: Outcome, name: str) -> tuple[object, object]:
    if name == outcome.dead:
        return "killed", "killed"
    return outcome.rules_left.get(name, ""), outcome.loops_left.get(name, "")


def _rest(check: Check) -> tuple[str, str]:
    return check.what, check.found


def _microseconds(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f} µs"
