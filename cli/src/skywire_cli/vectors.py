"""`skywire vectors check`: golden bytes, the original's or any other implementation's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from skywire_cli.failures import Exit
from skywire_cli.lazy import JsonGroup
from skywire_cli.output import console, json_wanted, print_json, table
from skywire_cli.paths import NamedPath

if TYPE_CHECKING:
    from skywire_common.vectors.check import SectionResult


@click.group(cls=JsonGroup)
def vectors() -> None:
    """Compare this code with golden bytes."""


@vectors.command()
@click.argument("file", type=NamedPath(exists=True, dir_okay=False))
def check(file: Path) -> int:
    """Run every vector of FILE against this code; exit code 1 if anything differs.

    The format is described in docs/wire-format.md. A section that this code does not know is an error.
    """
    from skywire_common.vectors import check as core
    from skywire_common.vectors.sections import SECTIONS

    with file.open("rb") as opened:
        # One byte more than it may have: the parser says so, whatever the rest of it is.
        data = opened.read(core.MAX_FILE_SIZE + 1)
    results = core.run(core.parse(data), SECTIONS)
    passed = not any(result.findings for result in results)
    if json_wanted():
        print_json({"file": str(file), "passed": passed, "sections": [_document(result) for result in results]})
    else:
        _print(file, results, passed)
    return Exit.OK if passed else Exit.CHECK_FAILED


def _document(result: SectionResult) -> dict[str, object]:
    return {
        "section": result.section,
        "checked": result.checked,
        "differing": result.differing,
        "findings": [{"vector": finding.vector, **finding.difference._asdict()} for finding in result.findings],
    }


def _print(file: Path, results: list[SectionResult], passed: bool) -> None:
    out = console()
    rows = [
        (result.section, result.checked, result.differing, "differs" if result.findings else "ok") for result in results
    ]
    out.print(table(str(file), ("section", ">vectors", ">differing", "result"), rows))
    findings = [
        (f"{result.section}[{finding.vector}]", *finding.difference)
        for result in results
        for finding in result.findings
    ]
    if findings:
        out.print(table("differences", ("vector", "field", "in the file", "from this code"), findings))
    total = sum(result.checked for result in results)
    out.print(f"{total} vectors: {'all hold' if passed else 'NOT all hold'}")
