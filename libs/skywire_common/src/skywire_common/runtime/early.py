"""The first thing that a service does: from here on SIGTERM ends it in order, also while it is still being loaded.

Loads nothing but the standard library's smallest parts: what comes before it ends by the signal, which is a failure to
whoever counts exit codes.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_ORDERLY = 0


def end_in_order() -> None:
    """Until the service catches the signal itself, have it end the process with exit code 0: nothing is open yet."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(_ORDERLY)
