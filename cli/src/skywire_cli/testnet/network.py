"""Run a testnet: directories, keys and configs, then the processes in order, and down again.

    async with Testnet(plan(3, Topology.LINE), directory) as net:
        await net.nodes[0].admin.summary()

Everything that it makes is below its directory (0700), but for sockets whose path there would be too long for one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shlex
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType

from skywire_common import disk
from skywire_common.curve import SecretKey
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.sockets import MAX_PATH

from skywire_cli.failures import CliError
from skywire_cli.keygen import write_key_file
from skywire_cli.testnet import config
from skywire_cli.testnet.cleaning import clean
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.missing import missing
from skywire_cli.testnet.node import Node
from skywire_cli.testnet.plan import Plan
from skywire_cli.testnet.process import Service, shim_command
from skywire_cli.testnet.state import STATE_FILE, Kind, State, Status, load, save

CONNECT_TIMEOUT = 30.0
APPS_DIRECTORY = "apps"
_DIRECTORY_MODE = 0o700
_APP_MODE = 0o700
_POLL = 0.05
# Less than what one service needs to start.
_NO_SPACE_LEFT = 1 << 20


class Testnet:
    """A network of processes, up within the `async with` block. Only one process at a time runs a directory."""

    # Not a test case, whatever its name looks like to a collector.
    __test__ = False

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        *,
        shape: str = "custom",
        keep: bool = False,
    ) -> None:
        """With `keep` keys, databases and logs stay behind, and another start goes on with them."""
        self.plan = plan
        self.directory = directory.absolute()
        self._shape = shape
        self._keep = keep
        self._on_change: Callable[[State], None] | None = None
        self._status = Status.WAITING
        self._reason = ""
        self._failure = ""
        self._lock: int | None = None
        self._launcher = ProcessId.this()
        # Why the state file is older than the state.
        self._unwritten: OSError | None = None
        self._sockets = self.directory
        root = self.directory
        self.discovery = Service(
            "discovery", Kind.DISCOVERY, "skywire_transport_discovery", root / "discovery", self._changed
        )
        self.setup_nodes = [
            Service(name, Kind.SETUP_NODE, "skywire_setup_node", root / name, self._changed)
            for name in (f"setup-node{number}" for number in range(1, plan.setup_nodes + 1))
        ]
        self.nodes = [Node(number, root, self._changed) for number in range(1, plan.nodes + 1)]

    async def __aenter__(self) -> Testnet:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    @property
    def services(self) -> list[Service]:
        """Every process, in the order of their start."""
        return [self.discovery, *self.setup_nodes, *self.nodes]

    @property
    def state(self) -> State:
        """What the state file says."""
        return State(
            launcher=self._launcher,
            shape=self._shape,
            status=self._status,
            reason=self._reason,
            keep=self._keep,
            failure=self._failure,
            services=tuple(service.state for service in self.services),
            sockets="" if self._sockets == self.directory else str(self._sockets),
        )

    def note_failure(self, failure: str) -> None:
        """Have the state say what fails on purpose; "" when nothing does any more."""
        self._failure = failure
        self._changed()

    def follow(self, on_change: Callable[[State], None]) -> None:
        """Call `on_change` with the state at every change from now on."""
        self._on_change = on_change

    async def up(self) -> None:
        """Start everything and wait until every link is up and may be routed over.

        Raises CliError, with nothing left running and the directory kept for its logs.
        """
        self._claim()
        try:
            self._lay_out()
            self._set(Status.STARTING)
            await self._start()
            await self.connected()
            self._set(Status.READY)
            self._check_written()
        except BaseException as error:
            # A failure is looked for in the logs; an interruption is nobody's fault.
            self._keep = self._keep or isinstance(error, Exception)
            full = self._full(error)
            await self.down(str(full or error))
            if full is not None:
                raise full from error
            raise

    def _check_written(self) -> None:
        """Raise what kept the state file from being written."""
        if self._unwritten is not None:
            raise self._unwritten

    def _full(self, error: BaseException) -> CliError | None:
        """Return the error of a full disk if that is what is behind another one."""
        said = disk.is_full(error)
        # A service whose disk is full may not even say so.
        silent = isinstance(error, CliError) and shutil.disk_usage(self.directory).free < _NO_SPACE_LEFT
        if not said and not silent and self._unwritten is None:
            return None
        why = "no space is left on its disk (ENOSPC)"
        if not said and self._unwritten is not None and not disk.is_full(self._unwritten):
            why = f"its state cannot be written: {self._unwritten.strerror}"
        hint = "free some space there, or name another directory by --dir"
        return CliError(
            "NO_SPACE", f"the testnet in {self.directory} cannot come up: {why}", hint, {"first": str(error)}
        )

    async def connected(self, timeout: float = CONNECT_TIMEOUT) -> None:
        """Wait until every node is READY with its apps, every planned link up at both ends and in the discovery.

        Raises CliError that says what is missing.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        channel = RpcChannel(self.discovery.interfaces["grpc"], None, None)
        try:
            while (lacking := await missing(self.nodes, self.plan, channel)) is not None:
                if asyncio.get_running_loop().time() > deadline:
                    hint = f"their logs are below {self.directory}"
                    raise CliError("NOT_CONNECTED", f"after {timeout:.0f} s {lacking}", hint)
                await asyncio.sleep(_POLL)
        finally:
            await channel.close()

    async def down(self, reason: str = "") -> None:
        """Stop everything, nodes first, and remove what was made unless it is to be kept."""
        if self._lock is None:
            return
        self._set(Status.STOPPING, reason)
        for node in self.nodes:
            await node.close_admin()
        for group in (self.nodes, self.setup_nodes, [self.discovery]):
            await asyncio.gather(*(service.stop() for service in group))
        try:
            self._set(Status.FAILED if reason else Status.STOPPED, reason)
            # Without a state file what is kept would be nobody's: neither `up` nor `down` would take it.
            kept = self._keep and (self.directory / STATE_FILE).exists()
            clean(self.directory, self.state, everything=not kept)
        finally:
            os.close(self._lock)
            self._lock = None

    def kill_all(self) -> None:
        """Send SIGKILL to every process, so that `down` has nothing to wait for."""
        for service in self.services:
            if service.state.process is not None:
                service.state.process.kill()

    async def restart(self, service: Service) -> None:
        """Start a process again that was stopped or killed, on the ports that it had."""
        self._configure(service, service.interfaces)
        await service.start()

    def _claim(self) -> None:
        """Make the directory this process's own, or raise CliError."""
        self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        found = load(self.directory)
        if found is None and any(self.directory.iterdir()):
            message = f"{self.directory} is not empty and no testnet's"
            raise CliError("NOT_EMPTY", message, "name another one by --dir")
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            hint = "`skywire testnet down` ends it; another one needs another --dir"
            raise CliError("ALREADY_RUNNING", f"a testnet runs in {self.directory}", hint) from error
        self._lock = descriptor
        if found is not None:
            clean(self.directory, found, everything=False)

    def _lay_out(self) -> None:
        """Make directories, keys and apps. Keys that are there already are used again."""
        if len(os.fsencode(self.nodes[-1].socket)) > MAX_PATH:
            self._sockets = Path(tempfile.mkdtemp(prefix="skywire-"))
            for node in self.nodes:
                node.socket = self._sockets / f"{node.name}.sock"
        for service in self.services:
            service.directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            service.change(public_key=_key(service.directory / config.KEY_FILE))
        for node in self.nodes:
            node.change(interfaces={"admin": str(node.socket)}, links=len(self.plan.neighbours(node.number - 1)))
        self._write_apps()

    def _write_apps(self) -> None:
        """Write an executable for each app of each node: it dies with its node and is otherwise the app's command."""
        *shim, _ = shim_command(0)
        for index, node in enumerate(self.nodes):
            directory = node.directory / APPS_DIRECTORY
            directory.mkdir(mode=_DIRECTORY_MODE, exist_ok=True)
            for app in self.plan.apps.get(index, ()):
                path = directory / f"{app.name}.v{app.version}"
                path.write_text(f'#!/bin/sh\nexec {shlex.join(shim)} $PPID {shlex.join(app.command)} "$@"\n')
                path.chmod(_APP_MODE)

    async def _start(self) -> None:
        """Start the processes group by group: the ports that one group got are in the configs of the next."""
        for group in ([self.discovery], self.setup_nodes, self.nodes):
            for service in group:
                self._configure(service, {})
            self._check_written()
            await _all(service.start() for service in group)

    def _configure(self, service: Service, ports: dict[str, str]) -> None:
        """Write the config of a service; `ports` are those that it shall get again."""
        level, directory = self.plan.log_level, service.directory
        if service is self.discovery:
            document = config.discovery(directory, level)
        elif isinstance(service, Node):
            document = config.node(
                self.plan,
                service.number - 1,
                directory,
                service.socket,
                directory / APPS_DIRECTORY,
                [node.public_key for node in self.nodes],
                self._peer(self.discovery),
                [self._peer(setup_node) for setup_node in self.setup_nodes],
            )
        else:
            document = config.setup_node(directory, self._peer(self.discovery), level)
        document["interfaces"] |= {name: address for name, address in ports.items() if name in document["interfaces"]}
        service.configure(document)

    def _peer(self, service: Service) -> config.Peer:
        address = self.plan.discovery_address if service is self.discovery else ""
        return config.Peer(address or service.interfaces["grpc"], service.public_key)

    def _set(self, status: Status, reason: str = "") -> None:
        self._status, self._reason = status, reason
        self._changed()

    def _changed(self) -> None:
        if self._status is Status.WAITING:
            return
        state = self.state
        try:
            save(self.directory, state)
        except OSError as error:
            self._unwritten = error  # `up` fails of it; processes end and the lock is let go without the file
        else:
            self._unwritten = None
        if self._on_change is not None:
            self._on_change(state)


def _key(path: Path) -> str:
    return str(SecretKey.load(path).public) if path.exists() else write_key_file(path)


async def _all(starts: Iterable[Awaitable[None]]) -> None:
    """Wait for all; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
