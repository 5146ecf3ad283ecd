"""A pytest plugin: before a test's hard time-out ends the run, show where every task stands.

pytest-timeout shows threads; with one loop per session that is always the same line of the selector.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

# The time-out itself ends the process; the stacks are written this long before.
_BEFORE_S = 0.3


def print_tasks() -> None:
    """Write the stack of every task that is not done, of any loop, to standard error."""
    tasks = [found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()]
    sys.stderr.write(f"\n{len(tasks)} tasks under way\n")
    for task in tasks:
        sys.stderr.write(f"\n{task!r}\n")
        task.print_stack(file=sys.stderr)
    sys.stderr.flush()


_timers: dict[str, threading.Timer] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Start our own timer beside the plugin's."""
    timer = threading.Timer(max(0.0, settings.timeout - _BEFORE_S), print_tasks)
    timer.daemon = True
    timer.start()
    _timers[item.nodeid] = timer


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """Stop it with the plugin's."""
    timer = _timers.pop(item.nodeid, None)
    if timer is not None:
        timer.cancel()
