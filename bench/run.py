"""One run of the benches: how long, where, and what has to be taken down at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.figures import Figure

T = TypeVar("T")


@dataclass
class Run:
    """What every bench gets. `seconds`: how long one flow is measured, after `warm` seconds of running in."""

    directory: Path
    quick: bool
    closing: AsyncExitStack
    quiet: bool = False
    _shared: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    @property
    def rounds(self) -> int:
        """How often everything is measured."""
        return 1 if self.quick else 3

    @property
    def seconds(self) -> float:
        """How long a flow is measured."""
        return 0.5 if self.quick else 1.5

    @property
    def warm(self) -> float:
        """How long a flow runs before it is measured."""
        return 0.2 if self.quick else 0.5

    def say(self, text: str) -> None:
        """Tell whoever waits what happens now."""
        if not self.quiet:
            print(f"{time.monotonic() - self._started:6.1f} s  {text}", file=sys.stderr, flush=True)

    def defer(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have something closed at the end of the run, the last one first, also after Ctrl-C."""
        self.closing.push_async_callback(close)

    async def shared(self, name: str, make: Callable[[], Awaitable[T]]) -> T:
        """Return what several benches use, made by the first that asks."""
        if name not in self._shared:
            self._shared[name] = await make()
        made: T = self._shared[name]
        return made


@dataclass(frozen=True)
class Bench:
    """One target of docs/performance.md: `name` as there, `measure` returns its figures."""

    name: str
    title: str
    measure: Callable[[Run], Awaitable[list[Figure]]]
