"""The first thing of the command: from here on Ctrl-C ends it quietly, exit code 130, also while it is being loaded.

Loads nothing but the standard library's smallest parts before that.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


def main() -> None:
    """Entry point of the console script."""
    # Who starts it in the background of a script has it ignore Ctrl-C: that stays so.
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    from skywire_cli.main import main as command

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        # Lines of tables and arrows are no letters of every terminal; a "?" is better than nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    command()


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)  # nothing is open yet
