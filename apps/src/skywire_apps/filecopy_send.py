"""Filecopy's sending end."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from skywire_app.blocking import App, ErrorCode, Failure, Stream
from skywire_app.session import IncompleteRead
from skywire_common.errors import DecodeError, SkywireError

from skywire_apps import filecopy_wire as wire
from skywire_apps.filecopy_wire import BadTransfer, Offer, Verdict
from skywire_apps.report import Report

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHED, EXIT_REFUSED, EXIT_DIFFERENT = range(6)
PROGRESS_EVERY_S = 1.0


class Progress(Protocol):
    """Who is told how far it is."""

    def at(self, size: int) -> None:
        """So many bytes have been sent."""


def send_file(identity: tuple[str, str], file: Path, remote: str, name: str, timeout: float, report: Report) -> int:
    """Send one file and return the exit code; `report` gets the result."""
    began = time.perf_counter()
    code, error, sha256, size = EXIT_FAILED, "", "", 0
    try:
        wire.check_name(name)
        with file.open("rb") as source, App.setup(*identity) as app:
            size = file.stat().st_size
            try:
                stream = app.dial(remote, timeout)
            except (Failure, TimeoutError, DecodeError) as failure:
                code, error = EXIT_UNREACHED, str(failure)
            else:
                began = time.perf_counter()
                with stream, _progress(name, size, report) as progress:
                    sha256, verdict = _send(stream, source, Offer(name, size), timeout, progress)
                code, error = _judge(verdict, sha256, size)
    except BadTransfer as failure:
        code, error = EXIT_REFUSED, str(failure)
    except (SkywireError, IncompleteRead, TimeoutError, OSError) as failure:
        error = str(failure)
    seconds = time.perf_counter() - began
    if code is EXIT_OK:
        rate = size / seconds / 1e6
        text = f"{name}: {size} bytes in {seconds:.2f} s, {rate:.1f} MB/s, SHA-256 {sha256}"
        report.end(
            text, ok=True, name=name, bytes=size, seconds=round(seconds, 4), mb_per_s=round(rate, 2), sha256=sha256
        )
    else:
        report.end(f"{name}: {error}", ok=False, name=name, error=error, exit_code=code)
    return code


def _send(stream: Stream, source: BinaryIO, offer: Offer, timeout: float, progress: Progress) -> tuple[str, Verdict]:
    digest = hashlib.sha256()
    sent = 0
    try:
        stream.write(wire.encode(offer), timeout)
        while sent < offer.size:
            chunk = source.read(min(wire.CHUNK, offer.size - sent))
            if not chunk:
                raise BadTransfer(f"the file became shorter: {sent} of {offer.size} bytes")
            digest.update(chunk)
            stream.write(chunk, timeout)
            sent += len(chunk)
            progress.at(sent)
        stream.write(digest.digest(), timeout)
        stream.write_eof()
    except Failure as failure:
        if failure.code is not ErrorCode.CLOSED:
            raise
        # The other end has said why before it closed.
        return digest.hexdigest(), _verdict(stream, timeout)
    return digest.hexdigest(), _verdict(stream, timeout)


def _verdict(stream: Stream, timeout: float) -> Verdict:
    size = wire.head_size(stream.readexactly(wire.LENGTH_SIZE, timeout))
    return wire.decode_verdict(stream.readexactly(size, timeout))


def _judge(verdict: Verdict, sha256: str, size: int) -> tuple[int, str]:
    if not verdict.ok:
        return EXIT_REFUSED, f"the other end refused: {verdict.error}"
    if verdict.sha256 != sha256 or verdict.size != size:
        return EXIT_DIFFERENT, f"the other end has {verdict.size} bytes with SHA-256 {verdict.sha256}, not {sha256}"
    return EXIT_OK, ""


class _Lines:
    """Progress for logs and programs: a line a second."""

    def __init__(self, name: str, total: int, report: Report) -> None:
        self._name = name
        self._total = total
        self._report = report
        self._next = time.monotonic() + PROGRESS_EVERY_S

    def at(self, size: int) -> None:
        """So many bytes have been sent."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + PROGRESS_EVERY_S
            share = 100 * size / self._total
            self._report.line(f"{self._name}: {share:.0f} %", progress=size, of=self._total)


@contextmanager
def _progress(name: str, total: int, report: Report) -> Iterator[Progress]:
    """Show a bar on a terminal, else print a line a second."""
    if not sys.stderr.isatty():
        yield _Lines(name, total, report)
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total)

        class Bar:
            def at(self, size: int) -> None:
                bar.update(task, completed=size)

        yield Bar()
