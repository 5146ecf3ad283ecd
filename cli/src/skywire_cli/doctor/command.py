"""`skywire doctor [--fix]`: what is wrong with a node and its neighbourhood, and how to repair it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click
from skywire_common.errors import SkywireError

from skywire_cli.asking import ask
from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import json_wanted, print_json, visible
from skywire_cli.paths import NamedPath
from skywire_cli.target import Target, start_line, target_options

if TYPE_CHECKING:
    from skywire_cli.doctor.checks import Finding
    from skywire_cli.doctor.facts import Facts


@click.command(cls=JsonCommand)
@target_options
@click.option(
    "--config",
    "file",
    type=NamedPath(dir_okay=False),
    help="The node's configuration [default: that of the testnet's node, or of ~/.skywire/node].",
)
@click.option("--fix", is_flag=True, help="Repair what can be repaired without taking anything from anybody.")
def doctor(target: Target, file: Path | None, fix: bool) -> int:
    """Compare a node with its files, its neighbours, the discovery and its setup nodes; name each difference and its
    repair. Exit code 1 if one is left. What needs the node's key (who signs, whose clock) is asked only if the
    configuration and its key file can be read. With --remote the node's files are not looked at; --config is a copy
    of its configuration then, of which it counts whom it names.
    """
    from skywire_cli.doctor.checks import judge

    if fix and target.remote is not None:
        raise CliError("USAGE", "--fix wants the node's own machine, not --remote", "run it there")
    facts = _look(target, file)
    findings = judge(facts)
    repaired: dict[int, str] = {}
    if fix:
        repaired = asyncio.run(_repair(findings, facts))
    left = [one for number, one in enumerate(findings) if repaired.get(number) != ""]
    if json_wanted():
        print_json([_document(one, repaired.get(number)) for number, one in enumerate(findings)])
    else:
        _print(findings, repaired, facts)
        if target.said and any("skywire node" in one.repair or "skywire logs" in one.repair for one in left):
            click.echo(f"what is to be typed here needs, for this node:{target.said}")
    return Exit.CHECK_FAILED if left else Exit.OK


def _look(target: Target, file: Path | None) -> Facts:
    from skywire_cli.doctor.gather import gather, gather_from_elsewhere

    if target.remote is not None:
        address = target.remote.address
        return ask(target, lambda admin: gather_from_elsewhere(address, admin, file))
    facts = asyncio.run(gather(target.admin_socket(), file or target.config_file(), _wrong))
    if facts.summary is None:
        facts.start = start_line(target) if file is None else f"skywire-node --config {file}"
    return facts


def _wrong(file: Path) -> str:
    from skywire_cli.config import ask_service

    try:
        ask_service("node", "--check", "--config", str(file))
    except CliError as error:
        if error.code != "CONFIG":
            raise
        return error.message
    return ""


async def _repair(findings: list[Finding], facts: Facts) -> dict[int, str]:
    """Carry the fixes out; the text of a number says why it did not succeed."""
    from skywire_cli.doctor.repairs import repair

    done: dict[int, str] = {}
    for number, finding in enumerate(findings):
        if finding.fix is None:
            continue
        try:
            await repair(finding.fix, facts)
        except (SkywireError, OSError) as error:
            done[number] = str(error)
        else:
            done[number] = ""
    return done


def _document(finding: Finding, repaired: str | None) -> dict[str, object]:
    return {
        "code": finding.code,
        "what": finding.what,
        "repair": finding.repair,
        "fixable": finding.fix is not None,
        "fixed": repaired == "",
        "why_not": repaired or "",
    }


def _print(findings: list[Finding], repaired: dict[int, str], facts: Facts) -> None:
    for number, finding in enumerate(findings):
        fixed = repaired.get(number)
        mark, colour = ("fixed", "green") if fixed == "" else ("wrong", "red")
        click.echo(f"{click.style(mark, fg=colour)}  {finding.code}: {visible(finding.what)}")
        if fixed is None:
            click.echo(f"       repair: {finding.repair}" + ("  (or --fix)" if finding.fix is not None else ""))
        elif fixed:
            click.echo(f"       not fixed: {visible(fixed)}; repair: {finding.repair}")
    if facts.document is None:
        click.echo("no configuration was read: files, discovery and setup nodes are not looked at (--config)")
    if not findings:
        click.echo("nothing is wrong")
