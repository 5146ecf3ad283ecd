"""Signals that end a testnet or what is done to one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def stop_on_signals(again: Callable[[], None]) -> asyncio.Event:
    """Return an event that SIGINT, SIGTERM and SIGHUP set; a second one calls `again`."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            again()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop
