"""Time that jumps: an event loop without I/O, and the processes whose tasks and timers run on it.

`VirtualLoop.time()` is the world's clock. When nothing is ready the loop does not sleep, it sets the clock to the next
timer. Every task and timer belongs to the process in whose context it was made, so that a process can be killed (they
never run again) or frozen (they run when it is thawed), like a real one by SIGKILL and SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio.events import _set_running_loop  # what every event loop that is no BaseEventLoop calls
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, TypeVar

MOST_AT_ONE_INSTANT = 2_000_000  # calls without the clock moving: something spins
MOST_CANCELS = 100

T = TypeVar("T")

_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Spinning(Exception):
    """The loop turns and time stands still."""


class Handle:
    """A call that is to come; a cancelled one stays in the queue and is passed over."""

    __slots__ = ("args", "callback", "cancelled_", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True
        self.callback, self.args = _nothing, ()

    def cancelled(self) -> bool:
        return self.cancelled_


def _nothing() -> None:
    pass


class VirtualLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as code without I/O needs, and fast: a property run turns it a hundred million times.

    Its clock is set by its timers. `bugs` collects what no code handled.
    """

    def __init__(self, start: float) -> None:
        self.now = start
        self.bugs: list[str] = []
        self.timers: list[tuple[float, int, Handle]] = []  # a heap; those of one instant ring in order of their making
        self._ready: deque[Handle] = deque()
        self._numbers = count()
        self._closed = False

    # -- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self.timers.clear()
        self._ready.clear()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        process = context.get(_PROCESS) if context is not None else _PROCESS.get(None)
        if process is not None:
            process.adopt(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        handle = Handle(callback, args, contextvars.copy_context() if context is None else context)
        process = handle.context.get(_PROCESS)
        if process is not None and not process.alive:
            handle.cancel()  # a dead process, on its way out
        else:
            heapq.heappush(self.timers, (when, next(self._numbers), handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.bugs.append(f"{context.get('message')}: {context.get('exception')!r}")

    # -- time

    def do(self, process: Process | None, call: Callable[[], T]) -> T:
        """Run `call` within the loop, as that process, and return its result; time stands still meanwhile."""
        context = process.context if process is not None else contextvars.Context()
        _set_running_loop(self)
        try:
            self._turn()  # what was asked for before comes before
            return context.run(call)
        finally:
            _set_running_loop(None)

    def pass_time(self, seconds: float) -> None:
        """Let everything happen that happens within so many seconds."""
        until = self.now + seconds
        timers = self.timers
        _set_running_loop(self)
        try:
            self._turn()
            while timers and timers[0][0] <= until:
                when, _, handle = heapq.heappop(timers)
                if handle.cancelled_:
                    continue
                self.now = max(self.now, when)
                self._ready.append(handle)
                self._turn()
        finally:
            _set_running_loop(None)
        self.now = until

    def end(self, tasks: Callable[[], list[asyncio.Task[Any]]]) -> None:
        """Cancel tasks, again and again, until there are none left; nobody waits for a timer any more."""
        _set_running_loop(self)
        try:
            for _ in range(MOST_CANCELS):
                left = tasks()
                for task in left:
                    task.cancel()
                self._turn()
                if not left:
                    return
        finally:
            _set_running_loop(None)
        raise Spinning(f"will not end: {tasks()}")

    def _turn(self) -> None:
        """Make every call that is due."""
        ready = self._ready
        for _ in range(MOST_AT_ONE_INSTANT):
            if not ready:
                return
            handle = ready.popleft()
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - the world's check tells of it
                self.call_exception_handler({"message": f"in {handle.callback}", "exception": error})
        raise Spinning(f"time stands still: {[one.callback for one in list(ready)[:3]]}")


class Process:
    """What dies together: tasks and timers, found by the context that they run in."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.inbox: list[Callable[[], None]] = []  # what arrived while it was frozen
        self._loop = loop
        self._parked: list[tuple[float, int, Handle]] = []
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

    @staticmethod
    def current() -> Process:
        """Return the process whose code runs now."""
        return _PROCESS.get()

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Note a task that was made in this process."""
        self.tasks[task] = None
        task.add_done_callback(self._gone)
        if not self.alive:
            task.cancel()

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str = "") -> asyncio.Task[None]:
        """Run a coroutine of this process; one that dies of an exception is a bug."""
        task: asyncio.Task[None] = self._loop.create_task(coroutine, name=name, context=self.context)
        task.add_done_callback(self._watch)
        return task

    def _watch(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.bugs.append(f"{self.name}: task {task.get_name()} died of {error!r}")

    def timers(self) -> list[Handle]:
        """Return this process's timers that are still to ring."""
        return [handle for _, _, handle in self._loop.timers if not handle.cancelled_ and self._owns(handle)]

    def _owns(self, handle: Handle) -> bool:
        return handle.context.get(_PROCESS) is self

    def kill(self) -> None:
        """End it at once: nothing of it runs again but what its cancelled tasks do to its own memory."""
        self.alive = False
        for handle in self.timers():
            handle.cancel()
        self._parked = []
        for task in list(self.tasks):
            task.cancel()

    def freeze(self) -> None:
        """Stop it; what its timers and callers want waits."""
        self.frozen = True
        timers = self._loop.timers
        self._parked = [timer for timer in timers if self._owns(timer[2])]
        timers[:] = [timer for timer in timers if not self._owns(timer[2])]
        heapq.heapify(timers)

    def thaw(self) -> None:
        """Let it go on, late."""
        self.frozen = False
        for timer in self._parked:
            heapq.heappush(self._loop.timers, timer)
        self._parked = []
        inbox, self.inbox = self.inbox, []
        for call in inbox:
            self._loop.call_soon(call, context=self.context)

    def receive_now(self, call: Callable[[T], None], value: T) -> None:
        """As `receive`, at once; for what comes from a timer that is nobody's."""
        if self.frozen:
            self.inbox.append(lambda: call(value))
        elif self.alive:
            self.context.run(call, value)

    def receive(self, call: Callable[[], None]) -> None:
        """Have the process do something that came from outside: now, when it is thawed, or never if it is dead."""
        if self.frozen:
            self.inbox.append(call)
        elif self.alive:
            self._loop.call_soon(call, context=self.context)
