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


@click.command(cls=JsonCommand)
@click.option("--size", "mebibytes", type=click.IntRange(1), default=256, show_default=True, help="MiB of the file.")
@click.option("--pings", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--nodes", type=click.IntRange(3, 32), default=4, show_default=True, help="Nodes in the line.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Where [default: a temporary one]."
)
@click.option("--keep", is_flag=True, help="Keep configs, logs and files for a look afterwards.")
def demo(mebibytes: int, pings: int, nodes: int, directory: Path | None, keep: bool) -> int:
    """Start a line of nodes, send a file from the first to the last, then ping; exit code 1 unless all is well.

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
        if error.status in (Exit.INTERRUPTED, Exit.USAGE):
            raise
        failure = error
    found = checks(outcome)
    if json_wanted():
        print_json(_document(outcome, found, failure))
    else:
        _print(outcome, found)
    if failure is not None:
        raise CliError(Exit.CHECK_FAILED, failure.code, failure.message, failure.hint, failure.details) from failure
    return Exit.OK if all(check.holds for check in found) else Exit.CHECK_FAILED


def _document(outcome: Outcome, found: list[Check], failure: CliError | None) -> dict[str, object]:
    return {
        "passed": failure is None and all(check.holds for check in found),
        "megabytes_per_s": outcome.megabytes_per_s,
        **asdict(outcome),
        "route": [hop._asdict() for hop in outcome.route],
        "checks": [check._asdict() for check in found],
    }


def _print(outcome: Outcome, found: list[Check]) -> None:
    out = console()
    if outcome.route:
        out.print(table("the loop's routes", ("direction", "node", "rule"), outcome.route))
    nodes = [
        (name, outcome.forwarded.get(name, ""), outcome.rules_left.get(name, ""), outcome.loops_left.get(name, ""))
        for name in outcome.forwarded
    ]
    if nodes:
        out.print(table("nodes", ("node", ">packets forwarded", ">rules left", ">loops left"), nodes))
    speed = outcome.megabytes_per_s
    figures = [
        ("file", size(outcome.size)),
        (
            "transfer",
            f"{outcome.transfer_s:.2f} s, {speed:.0f} MB/s" if outcome.transfer_s and speed else "not reached",
        ),
        ("round trip p50", _microseconds(outcome.round_trip_p50_us)),
        ("round trip p99", _microseconds(outcome.round_trip_p99_us)),
    ]
    out.print(table("figures", ("", ""), figures))
    out.print(
        table("checks", ("", "", "found"), [("ok" if check.holds else "NOT SO", *_rest(check)) for check in found])
    )


def _rest(check: Check) -> tuple[str, str]:
    return check.what, check.found


def _microseconds(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.0f} µs"
