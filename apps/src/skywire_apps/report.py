"""What an app says: lines for people, or JSON for programs; at the end perhaps a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from skywire_common.drafts import in_place_of


class Report:
    """Print lines, or with `as_json` one JSON object per line; `output` gets the last object, whole or not at all."""

    def __init__(self, as_json: bool, output: Path | None) -> None:
        self._as_json = as_json
        self._output = output

    def line(self, text: str, **fields: object) -> None:
        """Say something on the way."""
        self._print(text, fields)

    def end(self, text: str, **fields: object) -> None:
        """Say how it ended."""
        if self._output is not None:
            with in_place_of(self._output) as draft:
                draft.write_text(json.dumps(fields) + "\n")
        self._print(text, fields)

    def _print(self, text: str, fields: dict[str, object]) -> None:
        sys.stdout.write((json.dumps(fields) if self._as_json else text) + "\n")
        sys.stdout.flush()
