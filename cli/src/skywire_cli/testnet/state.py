"""The state file of a testnet, `testnet.json`: what runs, since when, and where it listens.

Written whole and renamed into place at every change, so that a reader never sees half of it. It is also the mark
that a directory is a testnet's own; nothing is ever removed from a directory without it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from skywire_common.drafts import in_place_of
from skywire_common.errors import DecodeError

from skywire_cli.failures import CliError
from skywire_cli.nearest import named
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.names import node_name, node_number

STATE_FILE = "testnet.json"
_VERSION = 2


class Kind(StrEnum):
    """What a process of a testnet is."""

    DISCOVERY = "discovery"
    SETUP_NODE = "setup-node"
    NODE = "node"


class Status(StrEnum):
    """How a process, or the whole testnet, is."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    DEGRADED = "degraded"  # every process is ready, and a node is not; never in the file
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """One process. `interfaces` maps a name to host:port, and "admin" to the path of a unix socket.

    `links` is how many a node has by the plan, and `links_up` how many of them are up; `log` is the path of its log.
    """

    name: str
    kind: Kind
    status: Status = Status.WAITING
    reason: str = ""
    process: ProcessId | None = None
    public_key: str = ""
    interfaces: dict[str, str] = field(default_factory=dict)
    log: str = ""
    links: int = 0
    links_up: int = 0

    @property
    def socket(self) -> Path:
        """Return the path of NodeAdmin's socket."""
        return Path(self.interfaces["admin"])


@dataclass(frozen=True, kw_only=True)
class State:
    """A testnet. `launcher` is the process that started all others and takes them down.

    `shape` is for people; `sockets` a directory of their own if the testnet's is too deep for them; `keep`: files stay;
    `failure`: what fails on purpose.
    """

    launcher: ProcessId
    shape: str
    status: Status
    services: tuple[ServiceState, ...]
    reason: str = ""
    sockets: str = ""
    keep: bool = False
    failure: str = ""

    @property
    def nodes(self) -> tuple[ServiceState, ...]:
        """Return the nodes in order."""
        return tuple(service for service in self.services if service.kind is Kind.NODE)

    @property
    def running(self) -> bool:
        """Whether the launcher has it up, or is at it. A launcher may live on and do other things afterwards."""
        return self.status not in (Status.STOPPED, Status.FAILED) and self.launcher.alive

    def process(self, text: str) -> ServiceState:
        """Return a process by its name, a node also by its number; raises CliError if there is none."""
        number = node_number(text)
        name = text if number is None else node_name(number)
        found = next((service for service in self.services if service.name == name), None)
        if found is None:
            hint = named(name, [service.name for service in self.services], "processes")
            raise CliError("NOT_FOUND", f"this testnet has no {name}", hint)
        return found

    def numbered(self, number: int) -> ServiceState:
        """Return a node by its number, from 1; raises CliError if there is none."""
        if not 1 <= number <= len(self.nodes):
            last = len(self.nodes)
            hint = f"name one of them, as {last} or {node_name(last)}: `skywire testnet status` shows them"
            raise CliError("NOT_FOUND", f"this testnet has nodes 1 to {last}, not {number}", hint)
        return self.nodes[number - 1]

    def node(self, number: int) -> ServiceState:
        """Return a node that runs by its number, from 1; raises CliError if there is none or it does not run."""
        node = self.numbered(number)
        if "admin" not in node.interfaces:
            raise CliError("NOT_READY", f"{node.name} is {node.status}", f"its log: {node.log}")
        return node

    def discovery(self) -> ServiceState:
        """Return the discovery; raises CliError if it does not run."""
        found = next(service for service in self.services if service.kind is Kind.DISCOVERY)
        if "grpc" not in found.interfaces:
            raise CliError("NOT_READY", f"{found.name} is {found.status}", f"its log: {found.log}")
        return found

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        document = {"version": _VERSION, **asdict(self), "launcher": self.launcher._asdict()}
        for service, shown in zip(self.services, document["services"], strict=True):
            shown["process"] = service.process._asdict() if service.process is not None else None
        return document


def load(directory: Path) -> State | None:
    """Read the state file; None if there is none; raises DecodeError if it is something else."""
    path = directory / STATE_FILE
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return _state(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DecodeError(f"{path} is no state of a testnet") from error


def save(directory: Path, state: State) -> None:
    """Replace the state file; raises OSError, and then the old one stands."""
    with in_place_of(directory / STATE_FILE) as draft:
        draft.write_text(json.dumps(state.document(), indent=1) + "\n")


def _state(document: dict[str, Any]) -> State:
    if document.pop("version") != _VERSION:
        raise ValueError("another version of the file")
    return State(
        launcher=ProcessId(**document.pop("launcher")),
        status=Status(document.pop("status")),
        services=tuple(_service(service) for service in document.pop("services")),
        **document,
    )


def _service(document: dict[str, Any]) -> ServiceState:
    process = document.pop("process")
    return ServiceState(
        kind=Kind(document.pop("kind")),
        status=Status(document.pop("status")),
        process=ProcessId(**process) if process else None,
        **document,
    )
