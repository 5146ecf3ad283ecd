"""All apps of a node: start, stop, restart, who listens on which port, and dials to this node itself."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from skywire_common import disk
from skywire_common.app_rules import KEY_VARIABLE, NAME_VARIABLE, VERSION_VARIABLE, check_word
from skywire_common.errors import ErrorCode, Failure, FailureFields, LocalError
from skywire_common.keys import Addr, PublicKey
from structlog.typing import FilteringBoundLogger

from skywire_node.apps.loop import AppLoop
from skywire_node.apps.orphans import Orphans
from skywire_node.apps.pipe import Turns
from skywire_node.apps.ports import Ports, check_configured, check_distinct
from skywire_node.apps.process import AppProcess
from skywire_node.apps.restart import Restarts
from skywire_node.apps.run import STOP_GRACE_S, AppRun, AppSpec, AppState
from skywire_node.edge import Dialler, Loop
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.routing.leases import SETUP_ID_SIZE

# How long an orphan that has ended by itself may stand in the system's table of processes.
SWEEP_S = 10.0


@dataclass(frozen=True)
class AppStatus:
    """An app as its owner sees it; `pid` 0 without a process, `since` in the event loop's time."""

    spec: AppSpec
    auto_start: bool
    state: AppState
    reason: str
    pid: int
    loops: int
    restarts: int
    since: float


class _App:
    """One configured app: its run if there is one, and what comes after it."""

    def __init__(self, spec: AppSpec, now: float) -> None:
        self.spec = spec
        self.auto_start = spec.auto_start
        self.run: AppRun | None = None
        self.restarts = Restarts(spec.policy)
        self.timer: asyncio.TimerHandle | None = None
        self.reason = ""
        self.since = now
        self.wanted = False


class AppHost:
    """The apps. A Listener for all of their ports; dials of apps go to `dialler` unless they stay on this node.

    `changed` is called on each change of any app's state. Must be made and used on a running event loop.
    Raises LocalError or Failure if the specs contradict each other.
    """

    def __init__(
        self,
        public_key: PublicKey,
        dialler: Dialler,
        specs: Iterable[AppSpec],
        turns: Turns,
        *,
        apps_path: Path,
        local_path: Path,
        log: FilteringBoundLogger,
        rng: random.Random,
        changed: Callable[[], None] = lambda: None,
        adopts: bool = False,
    ) -> None:
        """With `adopts` every child of this process is an app or what one has left: for a process that is a node."""
        specs = tuple(specs)
        check_distinct([(spec.app, spec.port) for spec in specs])
        if len({spec.app for spec in specs}) < len(specs):
            raise LocalError("an app is configured twice")
        for spec in specs:
            check_word(spec.app)
            check_word(spec.version)
            if spec.port:
                check_configured(spec.port, spec.app)
        self.public_key = public_key
        self.ports = Ports(rng.randrange(1 << 16))
        self.changed = changed
        self._dialler = dialler
        self._turns = turns
        self._apps_path = apps_path.absolute()
        self._local_path = local_path.absolute()
        self._log = log
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._apps = {spec.app: _App(spec, self._loop.time()) for spec in specs}
        self._closing = False
        self._orphans = Orphans(adopts=adopts)
        self._sweeping = self._loop.create_task(self._sweep(), name="sweep of orphans") if adopts else None

    # For the node's owner.

    def start(self) -> None:
        """Start every app that starts by itself; one that cannot start says why and stops no other."""
        for app in self._apps.values():
            if app.auto_start:
                try:
                    self.start_app(app.spec.app)
                except Failure as failure:
                    self._log.error("app cannot start", app=app.spec.app, reason=str(failure))

    def start_app(self, name: str) -> AppStatus:
        """Start an app, or leave it running; raises Failure if there is none, or it cannot start."""
        app = self._find(name)
        app.restarts.forget()
        app.wanted = True
        self._start(app)
        return self.status(name)

    async def stop_app(self, name: str, grace: float = STOP_GRACE_S) -> AppStatus:
        """Stop an app and wait until it is gone; one that does not run stays so."""
        app = self._find(name)
        app.wanted = False
        if app.timer is not None:
            app.timer.cancel()
            app.timer = None
        if app.run is not None:
            run = app.run
            run.stop(Failure(ErrorCode.STOPPING, f"app {name} was stopped"), grace)
            await asyncio.shield(run.ended)
        return self.status(name)

    def set_auto_start(self, name: str, auto_start: bool) -> AppStatus:
        """Have an app start with the node, or not."""
        self._find(name).auto_start = auto_start
        self.changed()
        return self.status(name)

    def status(self, name: str) -> AppStatus:
        """Return how one app is; raises Failure if there is none."""
        app = self._find(name)
        state, reason, pid, loops, since = AppState.STOPPED, app.reason, 0, 0, app.since
        if app.run is not None:
            state, reason = app.run.seen()
            pid, loops, since = app.run.pid, len(app.run.session.loops), app.run.since
        elif app.timer is not None:
            reason = f"{reason}; starts again in {max(0.0, app.timer.when() - self._loop.time()):.1f} s"
        return AppStatus(app.spec, app.auto_start, state, reason, pid, loops, app.restarts.count, since)

    async def add_loop(self, name: str, remote: Addr) -> Loop:
        """Set a loop up for an app that runs, which gets it as if the other end had dialled; raises Failure."""
        app = self._find(name)
        run = app.run
        if run is None or run.state is not AppState.READY:
            raise Failure(ErrorCode.CONFLICT, f"app {name} does not run").within(retryable=True)
        port = self.ports.free(name)
        try:
            loop = await self.dial(name, port, remote)
            try:
                run.session.offer(loop)
            except Failure as failure:
                loop.close(failure)
                raise
        except BaseException:
            self.ports.release(port)
            raise
        return loop

    def statuses(self) -> list[AppStatus]:
        """Return how all apps are, in the order of the config."""
        return [self.status(name) for name in self._apps]

    def loops(self) -> Iterator[tuple[str, AppLoop]]:
        """Go through the loops of all apps."""
        for name, app in self._apps.items():
            if app.run is not None:
                for loop in app.run.session.loops.values():
                    yield name, loop

    def local_loops(self) -> Iterator[tuple[str, LocalLoop]]:
        """Go through the loops between two apps of this node, each once, by the app that called."""
        for name, app_loop in self.loops():
            if isinstance(app_loop.loop, LocalLoop) and app_loop.loop.initiator:
                yield name, app_loop.loop

    async def close(self, grace: float = STOP_GRACE_S) -> None:
        """Stop all apps at once and start no more."""
        self._closing = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.gather(*(self.stop_app(name, grace) for name in self._apps))

    # For loops.

    def offer(self, loop: Loop) -> None:
        """Hand an incoming loop to the app whose port it asks for; raises Failure to refuse it."""
        port = loop.local.port
        app = self._apps.get(self.ports.owner(port) or "")
        if app is None or app.run is None or app.spec.port != port:
            raise Failure(ErrorCode.PORT_CLOSED, f"no app has port {port}").within(retryable=True)
        app.run.session.offer(loop)

    async def dial(self, app: str, local_port: int, remote: Addr) -> Loop:
        """Set a loop up for an app, to another node or to an app of this one; raises Failure."""
        if remote.public_key != self.public_key:
            return await self._dialler.dial(app, local_port, remote)
        ours, theirs = LocalLoop.pair(Addr(self.public_key, local_port), remote, self._rng.randbytes(SETUP_ID_SIZE))
        self.offer(theirs)
        return ours

    # Within.

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._orphans.sweep()

    def _find(self, name: str) -> _App:
        app = self._apps.get(name)
        if app is None:
            known = ", ".join(self._apps) or "none"
            raise Failure(ErrorCode.NOT_FOUND, f"there is no app {name}; configured: {known}")
        return app

    def _start(self, app: _App) -> None:
        spec = app.spec
        if app.timer is not None:
            app.timer.cancel()
            app.timer = None
        if self._closing:
            raise Failure(ErrorCode.STOPPING, "the node is stopping")
        if app.run is not None:
            if app.run.state is AppState.STOPPING:
                raise Failure(ErrorCode.CONFLICT, f"app {spec.app} is stopping").within(retryable=True)
            return
        try:
            process = self._spawn(spec)
        except Failure as failure:
            app.reason, app.since = failure.cause, self._loop.time()
            app.wanted = False
            raise
        log = self._log.bind(app=spec.app)
        app.run = AppRun(spec, process, self.ports, self._turns, self, log)
        self.changed()

    def _spawn(self, spec: AppSpec) -> AppProcess:
        executable = self._apps_path / f"{spec.app}.v{spec.version}"
        if not os.access(executable, os.X_OK) or not executable.is_file():
            raise Failure(ErrorCode.NOT_FOUND, f"there is no executable {executable}")
        directory = self._local_path / spec.app / f"v{spec.version}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if spec.port:
                self.ports.bind(spec.port, spec.app)
            # Whose node this is, an app may want to say before its first loop; and which of a node's apps it is.
            who = {NAME_VARIABLE: spec.app, VERSION_VARIABLE: spec.version}
            environment = {KEY_VARIABLE: str(self.public_key), **spec.env, **who}
            return AppProcess.spawn(executable, spec.args, environment, directory, self._orphans)
        except OSError as error:
            self.ports.release(spec.port)
            fields = FailureFields(limit=disk.limit_of(error))
            raise Failure(ErrorCode.UNAVAILABLE, f"app {spec.app} cannot start: {error}", fields) from error

    def run_ended(self, run: AppRun) -> None:
        """Note that an app's process is gone, and start it again if that is its policy."""
        app = self._apps[run.spec.app]
        app.run = None
        app.reason, app.since = run.reason, self._loop.time()
        if app.spec.port:
            self.ports.release(app.spec.port)
        if app.wanted and not self._closing:
            ran = self._loop.time() - run.began
            delay = app.restarts.after(
                in_order=run.exit is not None and run.exit.in_order, ran_s=ran, jitter=self._rng.random()
            )
            if delay is None:
                app.wanted = False
            else:
                app.timer = self._loop.call_later(delay, self._restart, app)
        self.changed()

    def _restart(self, app: _App) -> None:
        app.timer = None
        try:
            self._start(app)
        except Failure as failure:
            self._log.error("app cannot start again", app=app.spec.app, reason=str(failure))
