"""A pytest plugin: before a test's hard time-out ends the process, show where every task stands, and cancel the test.

pytest-timeout shows threads; with one loop per session that is always the same line of the selector. A test that
is cancelled fails where it waits and cleans up. One whose loop is blocked has its stacks written past pytest's capture,
which would be lost with the process. A test that is no coroutine is interrupted where it stands.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import io
import os
import sys
import threading
from typing import Any

import pytest
import pytest_timeout

# The test is cancelled this long before the time-out, a third of it at most.
_CANCEL_S = 10.0
# The stacks are written this long before.
_STACKS_S = 0.3


def _tasks() -> list[asyncio.Task[Any]]:
    """Return every task that is not done, of any loop."""
    return [found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()]


def stacks(tasks: list[asyncio.Task[Any]]) -> str:
    """Return where each of the tasks stands."""
    said = io.StringIO(f"{len(tasks)} tasks under way\n")
    said.seek(0, os.SEEK_END)
    for task in tasks:
        said.write(f"\n{task!r}\n")
        task.print_stack(file=said)
    return said.getvalue()


class _Watch:
    """The timers of one test."""

    def __init__(self, item: pytest.Item, timeout: float) -> None:
        self._item = item
        self._function = (str(item.path), getattr(item, "originalname", None))
        self._timers = [
            threading.Timer(timeout - min(_CANCEL_S, timeout / 3), self._cancel),
            threading.Timer(timeout - min(_STACKS_S, timeout / 20), self._show),
        ]
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _cancel(self) -> None:
        """Print all stacks into the test's report, and cancel the task that runs the test's function."""
        tasks = _tasks()
        sys.stderr.write(f"\ntime is up; {stacks(tasks)}")
        for task in tasks:
            code = getattr(task.get_coro(), "cr_code", None)
            if code is not None and (code.co_filename, code.co_name) == self._function:
                task.get_loop().call_soon_threadsafe(task.cancel, "time is up")

    def _show(self) -> None:
        capture = self._item.config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend_global_capture()
        os.write(2, f"\n{self._item.nodeid} is out of time; {stacks(_tasks())}".encode())
        faulthandler.dump_traceback(file=2)


_watches: dict[str, _Watch] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    """Start our own timers beside the plugin's; a test that is no coroutine is interrupted by a signal instead."""
    if item.get_closest_marker("asyncio") is None:
        return bool(pytest_timeout.pytest_timeout_set_timer(item, settings._replace(method="signal")))
    _watches[item.nodeid] = _Watch(item, settings.timeout)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """Stop them with the plugin's."""
    watch = _watches.pop(item.nodeid, None)
    if watch is not None:
        watch.stop()
