"""`skywire app-conformance PROGRAM [ARGUMENTS]`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from skywire_cli.failures import CliError, Exit
from skywire_cli.lazy import JsonCommand
from skywire_cli.output import console, json_wanted, print_json, table
from skywire_cli.paths import NamedPath

if TYPE_CHECKING:
    from skywire_cli.conformance.run import Result, Subject


@click.command(
    "app-conformance",
    cls=JsonCommand,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("program", required=False, type=NamedPath())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--name", default="", help="The app's name in a node's config; without it what its file or its Init says."
)
@click.option("--version", default="", help="Its version there.")
@click.option("--case", "cases", multiple=True, metavar="NAME", help="Run only this case; any number.")
@click.option(
    "--patience", default=5.0, show_default=True, type=click.FloatRange(0.2, 300), help="Seconds for an answer."
)
@click.option("--quiet", default=0.3, show_default=True, type=click.FloatRange(0.05, 300), help="Seconds for nothing.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1, 32), help="Cases at once.")
@click.option("--list", "only_list", is_flag=True, help="List the cases.")
def app_conformance(
    program: Path | None,
    arguments: tuple[str, ...],
    name: str,
    version: str,
    cases: tuple[str, ...],
    patience: float,
    quiet: float,
    jobs: int,
    only_list: bool,
) -> int:
    """Play the node to an app in any language, and say case by case what holds.

    PROGRAM is started as a node starts it, once for every case, with its pipe on descriptors 3 and 4. {remote} in an
    argument becomes an address to dial. Options come before PROGRAM. Exit code 1 if a case fails.
    """
    from skywire_cli.conformance import run

    if only_list:
        _list()
        return Exit.OK
    if program is None:
        raise click.UsageError("Missing argument 'PROGRAM'.")
    subject = run.identified(run.Subject(_found(program), arguments, name, version, patience, quiet))
    results = run.run(subject, cases, jobs)
    failed = any(result.verdict is run.Verdict.FAIL for result in results)
    if json_wanted():
        print_json(_document(subject, results, not failed))
    else:
        _print(subject, results)
    return Exit.CHECK_FAILED if failed else Exit.OK


def _found(program: Path) -> Path:
    """Return a program's file: as it is named, else where the shell would find it; raises CliError."""
    found = shutil.which(program) if not program.exists() and program.name == str(program) else None
    file = Path(found) if found is not None else program
    if not file.is_file() or not os.access(file, os.X_OK):
        hint = "make it executable: chmod +x" if file.is_file() else "name its file, or a program on the PATH"
        raise CliError("INVALID_INPUT", f"{program} is no program", hint)
    return file


def _list() -> None:
    from skywire_cli.conformance.run import CASES

    if json_wanted():
        print_json([{"case": case.name, "says": case.says, "rule": case.rule} for case in CASES])
        return
    rows = [(case.name, case.says, case.rule) for case in CASES]
    console().print(table("cases", ("case", "what has to hold", "in docs/apps.md"), rows))


def _document(subject: Subject, results: list[Result], passed: bool) -> dict[str, object]:
    return {
        "program": str(subject.program),
        "app": subject.name,
        "version": subject.version,
        "passed": passed,
        "cases": [
            {
                "case": result.case.name,
                "verdict": result.verdict.lower(),
                "says": result.case.says,
                "rule": result.case.rule,
                "detail": result.detail,
                "seconds": round(result.seconds, 3),
                "frames": list(result.frames),
                "output": result.output,
            }
            for result in results
        ],
    }


def _print(subject: Subject, results: list[Result]) -> None:
    from skywire_cli.conformance.run import Verdict

    out = console()
    rows = [(result.verdict, result.case.name, result.case.says, result.detail) for result in results]
    out.print(table(f"{subject.name} {subject.version}", ("verdict", "case", "what has to hold", "seen"), rows))
    for result in results:
        if result.verdict is Verdict.FAIL:
            click.echo(f"{result.case.name} (docs/apps.md, {result.case.rule}): {result.detail}")
            for frame in result.frames:
                click.echo(f"    {frame}")
            for line in result.output.splitlines():
                click.echo(f"    printed: {line}")
    count = {verdict: sum(result.verdict is verdict for result in results) for verdict in Verdict}
    click.echo(f"{count[Verdict.PASS]} hold, {count[Verdict.FAIL]} do not, {count[Verdict.SKIP]} do not apply")
