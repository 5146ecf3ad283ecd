"""One run of an app, from spawn to the last of its loops: process, pipe, session, ports, dials.

    STARTING ──Init──▶ READY ──▶ STOPPING ──the process is gone──▶ STOPPED
        └── no Init within 10 s ────▲

DEGRADED is READY with a reason: the app leaves its pipe unread for 5 s, or says nothing and leaves frames unanswered
for 5 s, or made so many frames within the last 5 s that it was held back.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from skywire_common.appframes import LoopAddr
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from structlog.typing import FilteringBoundLogger

from skywire_node.apps.limits import Limits
from skywire_node.apps.output import Output
from skywire_node.apps.pipe import AppPipe, Turns
from skywire_node.apps.ports import Ports
from skywire_node.apps.process import AppProcess, Exit
from skywire_node.apps.restart import RestartPolicy
from skywire_node.apps.session import AppSession
from skywire_node.edge import Loop

INIT_TIMEOUT_S = 10.0
LEAVE_TIMEOUT_S = 2.0
STOP_GRACE_S = 5.0
STUCK_S = 5.0
# Twice before the app counts as stuck.
KNOCK_EVERY_S = 2.0


class AppState(StrEnum):
    """Where an app is."""

    STARTING = "STARTING"
    READY = "READY"
    DEGRADED = "DEGRADED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class AppSpec:
    """An app as configured. `port` 0: it only dials. Started as `{apps_path}/{app}.v{version}` with `args`."""

    app: str
    version: str
    port: int = 0
    auto_start: bool = False
    args: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    restart: RestartPolicy | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def policy(self) -> RestartPolicy:
        """The restart policy; by default apps that start by themselves come back after a failure."""
        if self.restart is not None:
            return self.restart
        return RestartPolicy.ON_FAILURE if self.auto_start else RestartPolicy.NEVER


class Outside(Protocol):
    """What a run asks of the host."""

    async def dial(self, app: str, local_port: int, remote: Addr) -> Loop:
        """Set a loop up to another node or to this one; raises Failure."""

    def changed(self) -> None:
        """Say that the run's state is another, but not STOPPED."""

    def run_ended(self, run: AppRun) -> None:
        """Say that the process is gone; said once."""


class AppRun:
    """A Shell to its session. `ended` is done once the process is gone and its loops are told."""

    def __init__(
        self,
        spec: AppSpec,
        process: AppProcess,
        ports: Ports,
        turns: Turns,
        outside: Outside,
        log: FilteringBoundLogger,
    ) -> None:
        self.spec = spec
        self.pid = process.pid
        self.state = AppState.STARTING
        self.reason = ""
        self.exit: Exit | None = None
        self._loop = asyncio.get_running_loop()
        self.began = self.since = self._loop.time()
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        self._process = process
        self._ports = ports
        self._outside = outside
        self._log = log
        self._dials: set[asyncio.Task[None]] = set()
        self._why_stopped: Failure | None = None
        self._output = Output(process.output, log)
        self._pipe = AppPipe(process.from_app, process.to_app, turns, self._pipe_ended, spec.limits.frames_per_s)
        self.session = AppSession(spec.app, spec.version, self, spec.limits)
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(INIT_TIMEOUT_S, self._no_init)
        self._knocking = self._loop.call_later(KNOCK_EVERY_S, self._knock)
        process.exited.add_done_callback(self._process_ended)
        self._pipe.run(self.session)

    def __repr__(self) -> str:
        return f"AppRun({self.spec.app}, pid {self.pid}, {self.state.value})"

    def stop(self, reason: Failure, grace: float = STOP_GRACE_S) -> None:
        """Ask the process to end, and end it after the grace; a second call may shorten the grace."""
        self._why_stopped = self._why_stopped or reason
        self._move(AppState.STOPPING, reason.cause)
        self._process.send(signal.SIGTERM)
        self._in(grace, self.kill)

    def kill(self) -> None:
        """End the process and all that it started at once."""
        self._process.send(signal.SIGKILL)

    def seen(self) -> tuple[AppState, str]:
        """Return state and reason as a person should read them."""
        if self.state is not AppState.READY:
            return self.state, self.reason
        now = self._loop.time()
        blocked = self._pipe.blocked_since
        if blocked is not None and now - blocked >= STUCK_S:
            return AppState.DEGRADED, f"has not read its pipe for {now - blocked:.0f} s"
        # An app that still says something may hold up some of its loops, as a slow reader does. One that does not even
        # answer a knock has stopped.
        if now - self._pipe.last_read >= STUCK_S:
            count, since = self.session.unanswered(now - STUCK_S)
            if count:
                frames = f"{count} frames" if count > 1 else "a frame"
                return AppState.DEGRADED, f"says nothing and leaves {frames} unanswered for {now - since:.0f} s"
        held = self._pipe.held_back_at
        if held is not None and now - held < STUCK_S:
            return (
                AppState.DEGRADED,
                f"makes more than {self.spec.limits.frames_per_s} frames a second and is held back",
            )
        return self.state, self.reason

    # What the session asks (session.Shell).

    def wake(self) -> None:
        """Write soon."""
        self._pipe.wake()

    def wake_later(self) -> None:
        """Write a little later."""
        self._pipe.wake_later()

    def ready(self) -> None:
        """Note that the app has introduced itself."""
        if self.state is AppState.STARTING:
            self._in(None)
            self._move(AppState.READY)

    def dial(self, request_id: int, remote: Addr) -> None:
        """Set a loop up beside everything else."""
        task = self._loop.create_task(self._dial(request_id, remote), name=f"dial of app {self.spec.app}")
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    def loop_over(self, addr: LoopAddr) -> None:
        """Take the port of a dialled loop back."""
        if addr.port != self.spec.port:
            self._ports.release(addr.port)

    async def _dial(self, request_id: int, remote: Addr) -> None:
        app = self.spec.app
        port = 0
        try:
            port = self._ports.free(app)
            loop = await self._outside.dial(app, port, remote)
        except Failure as failure:
            self._ports.release(port)
            self._log.info(
                "dial failed", remote=str(remote), setup_id=failure.fields.setup_id.hex(), reason=str(failure)
            )
            self.session.dial_failed(request_id, failure)
        except BaseException:
            self._ports.release(port)
            self.session.dial_failed(request_id, Failure(ErrorCode.INTERNAL, "the node failed to dial"))
            raise
        else:
            self.session.dialled(request_id, loop)

    # What happens to the process.

    def _no_init(self) -> None:
        self.stop(Failure(ErrorCode.DEADLINE, f"app {self.spec.app} did not introduce itself{self._begun()}"))

    def _pipe_ended(self) -> None:
        if self.state is AppState.STOPPING:
            return
        reason = self.session.reason
        if reason is not None:
            self._why_stopped = reason
        self._move(AppState.STOPPING, "the app has closed its pipe" if reason is None else reason.cause)
        # It may still read why, write its last lines and exit by itself.
        stayed = reason or Failure(ErrorCode.LOOP_RESET, f"app {self.spec.app} closed its pipe and went on")
        self._in(LEAVE_TIMEOUT_S, lambda: self.stop(stayed))

    def _knock(self) -> None:
        """Ask an app that is silent and has left frames unanswered for a sign of life, if its protocol has one."""
        now = self._loop.time()
        if self.state is AppState.READY and now - self._pipe.last_read >= KNOCK_EVERY_S:
            self.session.knock(now)
        self._knocking = self._loop.call_later(KNOCK_EVERY_S, self._knock)

    def _process_ended(self, exited: asyncio.Future[Exit]) -> None:
        self._in(None)
        self._knocking.cancel()
        self.exit = exited.result()
        # Its last frames count, whoever noticed the end first.
        self._pipe.drain()
        if self.exit.in_order and self.session.reason is None and not self._pipe.unfinished:
            self.session.close(self._why_stopped, in_order=True)
        else:
            self.session.close(self._why_gone(self.exit))
        for task in tuple(self._dials):
            task.cancel()
        self._pipe.close()
        self._output.close()
        why = "" if self._why_stopped is None else f": {self._why_stopped.cause}"
        if not why and not self.exit.in_order and self._output.last:
            why = f"; its last line: {self._output.last}"
        self._move(AppState.STOPPED, f"{self.exit}{why}")
        self.ended.set_result(self.exit)
        self._outside.run_ended(self)

    def _why_gone(self, exited: Exit) -> Failure:
        if self._why_stopped is not None:
            return self._why_stopped
        return Failure(ErrorCode.LOOP_RESET, f"app {self.spec.app} ended with {exited}{self._begun()}")

    def _begun(self) -> str:
        """Say what the app began to say and has not finished."""
        return f": {self._pipe.unfinished}" if self._pipe.unfinished else ""

    def _in(self, delay: float | None, act: Callable[[], None] | None = None) -> None:
        """Have one thing happen later instead of what was planned."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if delay is None or act is None else self._loop.call_later(delay, act)

    def _move(self, state: AppState, reason: str = "") -> None:
        if state is self.state:
            return
        self._log.info("app", state=state.value, was=self.state.value, pid=self.pid, reason=reason)
        self.state = state
        self.reason = reason
        self.since = self._loop.time()
        if state is not AppState.STOPPED:
            self._outside.changed()
