"""Filecopy's receiving end: into a file of another name first, which gets its own once it is whole."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from skywire_app import App, Failure, IncompleteRead, Stream

from skywire_apps import filecopy_wire as wire
from skywire_apps.filecopy_wire import BadTransfer, Offer, Verdict
from skywire_apps.report import Report


class Receiver:
    """Take files into one folder, any number at once."""

    def __init__(self, folder: Path, overwrite: bool, max_size: int | None, report: Report) -> None:
        self._folder = folder
        self._overwrite = overwrite
        self._max_size = max_size
        self._report = report

    async def run(self, name: str, version: str) -> None:
        """Serve until the node says stop; raises Failure if the node goes away."""
        async with App.setup(name, version) as app:
            await app.serve(self.take)

    async def take(self, stream: Stream) -> None:
        """Receive one file and say what became of it."""
        offer: Offer | None = None
        try:
            size = wire.head_size(await stream.readexactly(wire.LENGTH_SIZE))
            offer = wire.decode_offer(await stream.readexactly(size))
            self._check(offer)
            verdict = await self._store(stream, offer)
        except BadTransfer as error:
            verdict = Verdict(ok=False, error=str(error), code=error.code)
        except OSError as error:
            verdict = _refusal(error)
        except (Failure, IncompleteRead) as error:
            code = error.code.value if isinstance(error, Failure) else "INCOMPLETE"
            self._say(offer, Verdict(ok=False, error=str(error), code=code), stream)
            return
        self._say(offer, verdict, stream)
        stream.write(wire.encode(verdict))
        await stream.drain()

    def _check(self, offer: Offer) -> None:
        if self._max_size is not None and offer.size > self._max_size:
            raise BadTransfer("TOO_LARGE", f"{offer.size} bytes are more than the {self._max_size} that are taken")
        if not self._overwrite and os.path.lexists(self._folder / offer.name):
            raise BadTransfer("NAME_TAKEN", f"there is a file {offer.name} already")
        free = shutil.disk_usage(self._folder).free
        if offer.size > free:
            raise BadTransfer("DISK_FULL", f"the disk is full: {free} bytes free, {offer.size} needed")

    async def _store(self, stream: Stream, offer: Offer) -> Verdict:
        part = self._folder / f".{secrets.token_hex(8)}.part"
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(fd, "wb", buffering=0) as target:
                digest = hashlib.sha256()
                left = offer.size
                while left:
                    chunk = await stream.read(min(left, wire.CHUNK))
                    if not chunk:
                        raise IncompleteRead(b"", left)
                    digest.update(chunk)
                    left -= len(chunk)
                    while chunk:
                        chunk = chunk[target.write(chunk) :]
            if await stream.readexactly(wire.HASH_SIZE) != digest.digest():
                raise BadTransfer("DIFFERENT", "what arrived does not have the sender's SHA-256")
            self._name(part, self._folder / offer.name)
        finally:
            with suppress(FileNotFoundError):
                part.unlink()
        return Verdict(ok=True, name=offer.name, size=offer.size, sha256=digest.hexdigest())

    def _name(self, part: Path, final: Path) -> None:
        """Give the whole file its name; raises BadTransfer if somebody else took it meanwhile."""
        if self._overwrite:
            part.replace(final)
            return
        try:
            final.hardlink_to(part)
        except FileExistsError as error:
            raise BadTransfer("NAME_TAKEN", f"there is a file {final.name} already") from error
        except OSError:
            # A file system without links: the moment between look and move is all that is left.
            if os.path.lexists(final):
                raise BadTransfer("NAME_TAKEN", f"there is a file {final.name} already") from None
            part.rename(final)

    def _say(self, offer: Offer | None, verdict: Verdict, stream: Stream) -> None:
        name = offer.name if offer is not None else ""
        said = f"{verdict.size} bytes, SHA-256 {verdict.sha256}" if verdict.ok else verdict.error
        self._report.line(
            f"{name or 'a file'} from {stream.remote}: {said}",
            ok=verdict.ok,
            name=name,
            remote=str(stream.remote),
            bytes=verdict.size,
            sha256=verdict.sha256,
            error=verdict.error,
            code=verdict.code,
        )


def _refusal(error: OSError) -> Verdict:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Verdict(ok=False, error="the disk is full", code="DISK_FULL")
    text = f"the file cannot be written: {os.strerror(error.errno or 0)}"
    return Verdict(ok=False, error=text, code="CANNOT_WRITE")
