"""The epoch of the last life that the discovery took, kept in a file: with it a restart is no duplicate identity."""

from __future__ import annotations

from pathlib import Path

import structlog
from skywire_common.drafts import in_place_of

FILE_NAME = "epoch"

log = structlog.get_logger(part="node")


class Life:
    """`previous_epoch` is 0 if there was no earlier life, or its file cannot be read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self.previous_epoch = self._read()
        self._kept = 0

    def keep(self, epoch: int) -> None:
        """Remember the epoch that the discovery took; a disk that refuses costs a restart some seconds, no more."""
        if epoch == self._kept:
            return
        try:
            with in_place_of(self._path) as draft:
                draft.write_text(f"{epoch}\n")
        except OSError as error:
            log.warning("epoch not kept over a restart", reason=str(error))
        self._kept = epoch

    def _read(self) -> int:
        try:
            text = self._path.read_text().strip()
        except OSError:
            return 0
        return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(1 << 64)) else 0
