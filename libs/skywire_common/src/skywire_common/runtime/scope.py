"""The life of a service: what it opened and must close, what runs beside it, and why it ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from structlog.typing import FilteringBoundLogger

T = TypeVar("T")

# Of the time that is left while draining, one closer is told this share, so that something is left for the others.
_SHARE = 0.8
# What each closer still gets when all of the time is over.
_LAST_S = 0.1


class Scope:
    """Collects closers and tasks; at the end undoes them in reverse order, within the grace.

    `stopping` is set when the service shall end. `failed` says that it ends because something broke.
    """

    def __init__(self, log: FilteringBoundLogger, grace: float) -> None:
        self.log = log
        self.stopping = asyncio.Event()
        self.failed = False
        self._grace = grace
        self._deadline: float | None = None
        self._closers: dict[int, Callable[[], Awaitable[None]]] = {}
        self._numbers = itertools.count()

    @property
    def grace(self) -> float:
        """Seconds that a closer may take: the whole grace before the stop, then a share of what is left of it."""
        if self._deadline is None:
            return self._grace
        return max(0.0, self._deadline - asyncio.get_running_loop().time()) * _SHARE

    def defer(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` awaited at the end, before everything that was deferred or spawned earlier."""
        self._closers[next(self._numbers)] = close

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine beside the service; if it dies of an exception, so does the service, and says why.

        At the end it is cancelled and awaited, in its turn among the closers.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        number = next(self._numbers)

        async def close() -> None:
            task.cancel()
            await asyncio.wait((task,))

        def done(task: asyncio.Task[T]) -> None:
            self._closers.pop(number, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.fail(f"{name} died", error)

        self._closers[number] = close
        task.add_done_callback(done)
        return task

    def stop(self, reason: str) -> None:
        """Ask the service to end in order."""
        if not self.stopping.is_set():
            self.log.info("stopping", reason=reason)
            self.stopping.set()

    def fail(self, what: str, error: BaseException, *, expected: bool = False) -> None:
        """End the service because of an error; its exit code will be 1.

        One that is `expected`, and no bug, is logged by its text alone, any other with its traceback.
        """
        self.failed = True
        if expected:
            self.log.critical(what, reason=str(error))
        else:
            self.log.critical(what, exc_info=error)
        self.stopping.set()

    async def close(self) -> None:
        """Await all closers, the last deferred first, within the grace; one that fails or lasts too long is told."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._grace
        while self._closers:
            _, close = self._closers.popitem()
            until = max(self._deadline, loop.time() + _LAST_S)
            try:
                async with asyncio.timeout_at(until):
                    await close()
            except TimeoutError:
                self.log.warning("the grace is over before all is closed", what=_name(close))
            except Exception as error:
                self.failed = True
                self.log.error("closing failed", what=_name(close), exc_info=error)


def _name(close: Callable[[], Awaitable[None]]) -> str:
    return getattr(close, "__qualname__", repr(close))
