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

if TYPE_CHECKING:
    from skywire_cli.demo.outcome import Check, Outcome

MIB = 1 << 20
# Whoever ran it, or the machine, is at fault: nothing is said about the network.
_NOT_OF_THE_DEMO = (Exit.INTERRUPTED, Exit.USAGE, Exit.CONFLICT, Exit.MACHINE)


@click.command(cls=JsonCommand)
@click.option("--size", "mebibytes", type=click.IntRange(1), default=256, show_default=True, help="MiB of the file.")
@click.option("--pings", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--nodes", type=click.IntRange(4, 32), default=4, show_default=True, help="Nodes in the diamond.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where [default: a temporary one]."
)
@click.option("--keep", is_flag=True, help="Keep configs, logs and files for a look afterwards.")
def demo(mebibytes: int, pings: int, nodes: int, directory: Path | None, keep: bool) -> int:
    """Send a file through a diamond of nodes and kill the one in use half-way; then ping, and kill a setup node.

    Exit code 1 unless the file arrived whole and nothing is left on any node.

    Every process is real. Nothing stays behind, also after Ctrl-C.
    """
    from skywire_cli.demo.outcome import Outcome, checks
    from skywire_cli.demo.run import Steps, run

    outcome = Outcome(mebibytes * MIB, pings)
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
        "megabytes_per_s": outcome.megabytes_per_s,
        **asdict(outcome),
        "route": [hop._asdict() for hop in outcome.route],
        "second_route": [hop._asdict() for hop in outcome.second_route],
        "checks": [check._asdict() for check in found],
    }


def _print(outcome: Outcome, found: list[Check]) -> None:
    out = console()
    for title, route in (("the loop's route", outcome.route), ("its route afterwards", outcome.second_route)):
        if route:
            out.print(table(title, ("direction", "node", "rule"), route))
    nodes = [(name, outcome.forwarded.get(name, ""), *_left(outcome, name)) for name in sorted(outcome.forwarded)]
    if nodes:
        out.print(table("nodes", ("node", ">packets forwarded", ">rules left", ">loops left"), nodes))
    speed = outcome.megabytes_per_s
    figures = [
        ("file", size(outcome.size)),
        (
            "transfer",
            f"{outcome.transfer_s:.2f} s, {speed:.0f} MB/s" if outcome.transfer_s and speed else "not reached",
        ),
        ("pause", f"{outcome.pause_s:.2f} s" if outcome.pause_s is not None else "not seen"),
        ("sent again", size(outcome.resent)),
        ("round trip p50", _microseconds(outcome.round_trip_p50_us)),
        ("round trip p99", _microseconds(outcome.round_trip_p99_us)),
    ]
    out.print(table("figures", ("", ""), figures))
    out.print(
        table("checks", ("", "", "found"), [("ok" if check.holds else "NOT SO", *_rest(check)) for check in found])
    )


def _left(outcome: Outcome, name: str) -> tuple[object, object]:
    if name == outcome.killed:
        return "killed", "killed"
    return outcome.rules_left.get(name, ""), outcome.loops_left.get(name, "")


def _rest(check: Check) -> tuple[str, str]:
    return check.what, check.found


def _microseconds(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f} µs"
