"""Filecopy's sending end."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from skywire_app.blocking import App, ErrorCode, Failure, Stream
from skywire_app.pipe import NoNode
from skywire_app.session import IncompleteRead
from skywire_common.errors import DecodeError, SkywireError

from skywire_apps import filecopy_wire as wire
from skywire_apps.filecopy_wire import BadTransfer, Offer, Verdict
from skywire_apps.report import Report

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHED, EXIT_REFUSED, EXIT_DIFFERENT, EXIT_FILE = range(7)
_EXIT_OF = {"NOT_A_FILE": EXIT_FILE, "CANNOT_READ": EXIT_FILE, "FILE_CHANGED": EXIT_FILE, "BAD_NAME": EXIT_USAGE}
PROGRESS_EVERY_S = 1.0


class Progress(Protocol):
    """Who is told how far it is."""

    def at(self, size: int) -> None:
        """So many bytes have been sent."""


def send_file(identity: tuple[str, str], file: Path, remote: str, name: str, timeout: float, report: Report) -> int:
    """Send one file and return the exit code; `report` gets the result."""
    began = time.perf_counter()
    code, kind, error, sha256, size = EXIT_FAILED, "", "", "", 0
    try:
        wire.check_name(name)
        with _opened(file) as source, App.setup(*identity) as app:
            size = os.fstat(source.fileno()).st_size
            try:
                stream = app.dial(remote, timeout)
            except (Failure, TimeoutError, DecodeError) as failure:
                code, kind, error = EXIT_UNREACHED, _kind(failure), str(failure)
            else:
                began = time.perf_counter()
                with stream, _progress(name, size, report) as progress:
                    sha256, verdict = _send(stream, source, Offer(name, size), timeout, progress)
                code, kind, error = _judge(verdict, sha256, size)
    except BadTransfer as failure:
        code, kind, error = _EXIT_OF.get(failure.code, EXIT_REFUSED), failure.code, str(failure)
    except (SkywireError, IncompleteRead, TimeoutError) as failure:
        kind, error = _kind(failure), str(failure)
        code = EXIT_USAGE if isinstance(failure, NoNode) else EXIT_FAILED
    except OSError as failure:
        # The stream has errors of its own; what is left is the file's.
        code, kind, error = EXIT_FILE, "CANNOT_READ", f"{file}: {failure.strerror or failure}"
    seconds = time.perf_counter() - began
    if code == EXIT_OK:
        rate = size / seconds / 1e6
        text = f"{name}: {size} bytes in {seconds:.2f} s, {rate:.1f} MB/s, SHA-256 {sha256}"
        report.end(
            text, ok=True, name=name, bytes=size, seconds=round(seconds, 4), mb_per_s=round(rate, 2), sha256=sha256
        )
    else:
        report.end(f"{name}: {kind}: {error}", ok=False, name=name, code=kind, error=error, exit_code=code)
    return code


def _opened(file: Path) -> BinaryIO:
    """Open a file to be read; raises BadTransfer for what is none: a pipe would never end, a device neither."""
    # Without waiting for a pipe's other end.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadTransfer("NOT_A_FILE", f"{file} is no regular file: only files with a size are copied")
    return os.fdopen(descriptor, "rb")


def _kind(error: Exception) -> str:
    if isinstance(error, Failure):
        return error.code.value
    return {DecodeError: "INVALID_ARGUMENT", IncompleteRead: "INCOMPLETE", TimeoutError: "DEADLINE"}.get(
        type(error), "FAILED"
    )


def _send(stream: Stream, source: BinaryIO, offer: Offer, timeout: float, progress: Progress) -> tuple[str, Verdict]:
    digest = hashlib.sha256()
    sent = 0
    before = os.fstat(source.fileno())
    try:
        stream.write(wire.encode(offer), timeout)
        while sent < offer.size:
            chunk = source.read(min(wire.CHUNK, offer.size - sent))
            if not chunk:
                raise BadTransfer("FILE_CHANGED", f"the file became shorter: {sent} of {offer.size} bytes are there")
            digest.update(chunk)
            stream.write(chunk, timeout)
            sent += len(chunk)
            progress.at(sent)
        # Without the hash the other end throws away what it has.
        _check_unchanged(source, before)
        stream.write(digest.digest(), timeout)
        stream.write_eof()
    except Failure as failure:
        if failure.code is not ErrorCode.CLOSED:
            raise
        # The other end has said why before it closed.
        return digest.hexdigest(), _verdict(stream, timeout)
    return digest.hexdigest(), _verdict(stream, timeout)


def _check_unchanged(source: BinaryIO, before: os.stat_result) -> None:
    after = os.fstat(source.fileno())
    if source.read(1) or after.st_size != before.st_size:
        raise BadTransfer("FILE_CHANGED", f"the file was growing: it had {before.st_size} bytes, now {after.st_size}")
    if after.st_mtime_ns != before.st_mtime_ns:
        raise BadTransfer("FILE_CHANGED", "the file was written to while it was copied")


def _verdict(stream: Stream, timeout: float) -> Verdict:
    size = wire.head_size(stream.readexactly(wire.LENGTH_SIZE, timeout))
    return wire.decode_verdict(stream.readexactly(size, timeout))


def _judge(verdict: Verdict, sha256: str, size: int) -> tuple[int, str, str]:
    if not verdict.ok:
        return EXIT_REFUSED, verdict.code or "REFUSED", f"the other end refused: {verdict.error}"
    if verdict.sha256 != sha256 or verdict.size != size:
        has = f"the other end has {verdict.size} bytes with SHA-256 {verdict.sha256}, not {sha256}"
        return EXIT_DIFFERENT, "DIFFERENT", has
    return EXIT_OK, "", ""


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
