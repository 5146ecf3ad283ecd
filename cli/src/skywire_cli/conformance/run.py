"""Run cases, each against a process of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from skywire_common.app_rules import is_word
from skywire_common.errors import LocalError

from skywire_cli.conformance import bad, good
from skywire_cli.conformance.cases import FAR_PORT, Case, no_crash
from skywire_cli.conformance.peer import FAR, Broken, Peer, Skipped
from skywire_cli.conformance.process import AppUnderTest, Ended

_FILE = re.compile(r"(?P<app>.+?)\.v(?P<version>[0-9].*)", re.ASCII)
# In a file's name, what an app's name cannot have.
_NO_WORD = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9_.-]", re.ASCII)
# In the order of the report.
CASES: tuple[Case, ...] = (*good.CASES, *bad.CASES)
# What an app's arguments may say in place of an address to dial.
REMOTE = f"{FAR}:{FAR_PORT}"


class Verdict(StrEnum):
    """What came of a case."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "FAIL"
    SKIP = "skipped"


@dataclass(frozen=True)
class Result:
    """One case's verdict; what the app printed and the last frames if it failed."""

    case: Case
    verdict: Verdict
    detail: str
    seconds: float
    frames: Sequence[str] = ()
    output: str = ""


@dataclass(frozen=True)
class Subject:
    """The app: its program, its arguments, and the name and version under which a node would start it."""

    program: Path
    arguments: Sequence[str] = ()
    name: str = ""
    version: str = ""
    patience: float = 5.0
    quiet: float = 0.3

    def start(self, *, small_pipe: bool = False) -> Peer:
        """Start it; raises LocalError if that cannot be."""
        arguments = [argument.replace("{remote}", REMOTE) for argument in self.arguments]
        try:
            app = AppUnderTest(self.program, arguments, self.name, self.version, small_pipe=small_pipe)
        except OSError as error:
            raise LocalError(f"{self.program} cannot be started: {error}") from error
        accepts = not any("{remote}" in argument for argument in self.arguments)
        return Peer(app, self.patience, self.quiet, accepts=accepts)


def identified(subject: Subject) -> Subject:
    """Find out under which name and version to start an app: those given, its file's, or those that it says."""
    if subject.name and subject.version:
        return subject
    match = _FILE.fullmatch(subject.program.name)
    if match is not None and is_word(match["app"]) and is_word(match["version"]):
        return _named(subject, subject.name or match["app"], subject.version or match["version"])
    stem = _NO_WORD.sub("-", subject.program.stem).lstrip("-")
    guessed = _named(subject, subject.name or (stem if is_word(stem) else "app"), subject.version or "1.0")
    peer = guessed.start()
    try:
        said = peer.start()
    except (Broken, Ended):
        # The cases say what is wrong with it.
        return guessed
    finally:
        peer.app.close()
    fits = is_word(said.app_name) and is_word(said.app_version)
    return _named(subject, said.app_name, said.app_version) if fits and not subject.name else guessed


def _named(subject: Subject, name: str, version: str) -> Subject:
    return replace(subject, name=name, version=version)


def run_case(case: Case, subject: Subject) -> Result:
    """Run one case against a fresh process."""
    began = time.monotonic()
    peer = subject.start(small_pipe=case.small_pipe)
    try:
        verdict, detail = _verdict(case, peer)
        frames = tuple(peer.transcript) if verdict is Verdict.FAIL else ()
        output = peer.app.output() if verdict is Verdict.FAIL else ""
    finally:
        peer.app.close()
    return Result(case, verdict, detail, time.monotonic() - began, frames, output)


def _verdict(case: Case, peer: Peer) -> tuple[Verdict, str]:
    try:
        return Verdict.PASS, _said(case, peer)
    except Broken as broken:
        return Verdict.FAIL, str(broken)
    except Skipped as skipped:
        return Verdict.SKIP, str(skipped)


def _said(case: Case, peer: Peer) -> str:
    try:
        return case.run(peer) or ""
    except Ended:
        peer.app.ended(peer.patience)
        no_crash(peer)
        if not peer.accepts:
            return f"it ended by itself, with exit code {peer.app.exit}"
        raise Broken(f"it ended in the middle, with exit code {peer.app.exit}") from None


def run(
    subject: Subject, names: Sequence[str] = (), jobs: int = 2, seen: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Run all cases, or those named; raises LocalError for a name that there is not."""
    known = {case.name for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LocalError(f"there is no case {unknown[0]}; --list shows all")
    chosen = [case for case in CASES if not names or case.name in names]
    results = []
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda case: run_case(case, subject), chosen):
            seen(result)
            results.append(result)
    return results
