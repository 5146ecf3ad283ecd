"""What the doctor looks at: plain values, gathered by `gather`, judged by `checks`. None: could not be looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skywire_common.runtime.config import TlsFiles

    from skywire_cli.doctor.ports import Taken

Row = dict[str, Any]


@dataclass
class PeerFact:
    """A service that the node calls. `code` is why it did not answer as it should, empty if it did."""

    address: str
    public_key: str
    code: str = ""
    cause: str = ""
    limit: str = ""
    # Of the doctor's own clock.
    clock_ahead_s: float = 0.0
    tls: TlsFiles | None = None
    server_name: str = ""
    # Of a setup node: nodes, this one or neighbours, on which it could do nothing.
    unreached: list[str] = field(default_factory=list)


@dataclass
class Facts:
    """A node, its files and its neighbourhood. Rows are as `shown.plain` makes them."""

    # Where it is asked: its socket, or host:port of its interfaces.admin_remote.
    socket: Path
    elsewhere: str = ""
    socket_exists: bool = False
    # What would start the node.
    start: str = "skywire-node"
    # The running node.
    summary: Row | None = None
    # Its clock, of the doctor's own; None: it does not say.
    clock_ahead_s: float | None = None
    silent: str = ""
    apps: list[Row] = field(default_factory=list)
    transports: list[Row] = field(default_factory=list)
    rules: list[Row] = field(default_factory=list)
    loops: list[Row] = field(default_factory=list)
    link_open: bool | None = None
    # Its files.
    config: Path | None = None
    document: Row | None = None
    config_problem: str = ""
    key_file: Path | None = None
    key_mode: int | None = None
    key_problem: str = ""
    public_key: str = ""
    executables: dict[Path, str] = field(default_factory=dict)  # "ok", "missing", "not executable"
    directories: dict[Path, str] = field(default_factory=dict)  # "ok", "missing", "not writable"
    free_bytes: int | None = None
    taken: list[Taken] = field(default_factory=list)  # looked for if the node does not run
    # Its neighbourhood.
    discovery: PeerFact | None = None
    record: Row | None = None
    listed: list[Row] | None = None
    neighbours: dict[str, Row] = field(default_factory=dict)
    setup_nodes: list[PeerFact] = field(default_factory=list)
