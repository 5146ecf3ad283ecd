"""Time that jumps: an event loop without I/O, and the processes whose tasks and timers run on it.

`VirtualLoop.time()` is the world's clock. When nothing is ready the loop does not sleep, it sets the clock to the next
timer. Every task and timer belongs to the process in whose context it was made, so that a process can be killed (they
never run again) or frozen (they run when it is thawed), like a real one by SIGKILL and SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

MOST_AT_ONE_INSTANT = 200_000  # turns of the loop without the clock moving: something spins

T = TypeVar("T")

_PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process")


class Spinning(Exception):
    """The loop turns and time stands still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose clock is set by its timers. `bugs` collects what no code handled."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.now = start
        self.bugs: list[str] = []
        self._selector = self
        self._turns = 0
        self.set_exception_handler(self._unhandled)
        self.set_task_factory(self._new_task)

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> list[Any]:
        """Do what a selector does, without anything to select from: let the time pass."""
        if timeout is None:
            raise Spinning("nothing will ever happen again in this world")
        if timeout > 0:
            self.now += timeout
            self._turns = 0
            return []
        self._turns += 1
        if self._turns > MOST_AT_ONE_INSTANT:
            raise Spinning(f"time stands still: {list(self._ready)[:3]}")
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.bugs.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _new_task(self, loop: Any, coroutine: Any, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=self, context=context)
        process = context.get(_PROCESS) if context is not None else _PROCESS.get(None)
        if process is not None:
            process.adopt(task)
        return task

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        process = handle._context.get(_PROCESS)
        if process is not None and not process.alive:
            handle.cancel()  # a dead process, on its way out
        return handle

    def do(self, process: Process | None, call: Callable[[], T]) -> T:
        """Run `call` within the loop, as that process, and return its result; time stands still meanwhile."""
        done: asyncio.Future[T] = self.create_future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:  # noqa: BLE001 - it is raised to the caller
                done.set_exception(error)

        self.call_soon(run, context=process.context if process is not None else contextvars.Context())
        return self.run_until_complete(done)

    def pass_time(self, seconds: float) -> None:
        """Let everything happen that happens within so many seconds."""
        self.run_until_complete(asyncio.sleep(seconds))


class Process:
    """What dies together: tasks and timers, found by the context that they run in."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.inbox: list[Callable[[], None]] = []  # what arrived while it was frozen
        self._loop = loop
        self._parked: list[asyncio.TimerHandle] = []
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

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return this process's timers that are still to ring."""
        return [
            handle
            for handle in self._loop._scheduled
            if not handle._cancelled and handle._context.get(_PROCESS) is self
        ]

    def kill(self) -> None:
        """End it at once: nothing of it runs again but what its cancelled tasks do to its own memory."""
        self.alive = False
        for handle in [*self.timers(), *self._parked]:
            handle.cancel()
        for task in list(self.tasks):
            task.cancel()

    def freeze(self) -> None:
        """Stop it; what its timers and callers want waits."""
        self.frozen = True
        loop = self._loop
        self._parked = self.timers()
        parked = set(self._parked)
        loop._scheduled = [handle for handle in loop._scheduled if handle not in parked]
        heapq.heapify(loop._scheduled)

    def thaw(self) -> None:
        """Let it go on, late."""
        self.frozen = False
        for handle in self._parked:
            if not handle._cancelled:
                heapq.heappush(self._loop._scheduled, handle)
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
