"""The node's configuration: a JSON file, overruled by the environment (docs/configuration.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, model_validator
from skywire_common.app_rules import FIRST_FREE, is_word
from skywire_common.curve import SecretKey
from skywire_common.errors import Failure, LocalError
from skywire_common.keys import PublicKey
from skywire_common.rpc import token
from skywire_common.runtime.config import (
    Address,
    Directory,
    HexKey,
    KeyFile,
    ListenAddress,
    Open,
    Peer,
    Section,
    ServiceSettings,
    SocketPath,
    TlsFiles,
    is_loopback,
    setting,
)

from skywire_node.apps.limits import BACKLOG, MAX_FRAMES_PER_S, MAX_LOOPS, MAX_QUEUED
from skywire_node.apps.ports import check_configured, check_distinct
from skywire_node.apps.restart import RestartPolicy
from skywire_node.link import types

MAX_APPS = 256
MAX_TRANSPORTS = 1_024
MAX_TYPES = 6  # a node tells the discovery 8 addresses, with tcp and control
MAX_SETUP_NODES = 16
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)


def _app_word(value: str) -> str:
    """Check a name or version that becomes part of a path."""
    if not is_word(value):
        raise ValueError("letters, digits, '.', '_' and '-', at most 64, the first one a letter or digit")
    return value


AppWord = Annotated[str, AfterValidator(_app_word)]


def _type_word(value: str) -> str:
    """Check the name of a type of transports, also that it is installed."""
    if not _TYPE_NAME.fullmatch(value):
        raise ValueError("a type of transports is at most 32 of a-z, 0-9, _ and -, a letter first")
    try:
        return types.check(value)
    except LocalError as error:
        raise ValueError(str(error)) from error


TypeWord = Annotated[str, AfterValidator(_type_word)]


def _token_file(path: Path) -> Path:
    """Load the token once, so that a bad file is an error of the configuration."""
    try:
        token.load(path)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except LocalError as error:
        raise ValueError(str(error)) from error
    return path


class Identity(Section):
    """Who the node is."""

    static_secret_key_file: KeyFile = setting("who the node is: 64 hex digits, mode 0600")
    # Optional, so that a wrong key file is noticed before anyone is talked to.
    static_public_key: HexKey | None = setting("the key that the file must hold", default=None)

    def secret(self) -> SecretKey:
        """Load the key."""
        return SecretKey.load(self.static_secret_key_file)

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if self.static_public_key is not None and self.secret().public != self.static_public_key:
            raise ValueError("static_public_key is not the key of static_secret_key_file")
        return self


class TransportSettings(Section):
    """A transport that the node keeps up."""

    public_key: HexKey = setting("the other node")
    type: TypeWord = setting("how the nodes are linked: tcp, grpc, or one of transport_types", default="tcp")
    public: bool = setting("registered, so that others may route over it", default=True)
    address: Address | None = setting("where the other takes links; without it the discovery is asked", default=None)


class TransportTypeSettings(Section):
    """A type of transports beside tcp (docs/transports.md)."""

    type: TypeWord = setting("grpc, or one that an installed package brings")
    listen: ListenAddress | None = setting("where links of this type are accepted; unset: it only dials", default=None)
    announced: Address | None = setting("what others dial for it; unset: what was bound", default=None)
    tls: TlsFiles | None = setting("TLS of its listener", default=None)
    dial_tls: TlsFiles | None = setting("TLS of the connections that it makes; {}: the system's CAs", default=None)
    options: dict[str, Any] = setting("what the type itself wants to know", default_factory=dict)


class AppLimits(Section):
    """What an app can make the node hold, and do."""

    loops: int = setting("open at once; more are refused", default=MAX_LOOPS, ge=1, le=MAX_LOOPS)
    backlog: int = setting("loops that wait to be accepted; more are refused", default=BACKLOG, ge=1, le=BACKLOG)
    queued_bytes: int = setting(
        "that wait for it on all of its loops", unit="bytes", default=MAX_QUEUED, ge=1 << 20, le=MAX_QUEUED
    )
    frames_per_second: int = setting(
        "that the node reads of it; one that makes more waits in its write",
        unit="1/s",
        default=MAX_FRAMES_PER_S,
        ge=100,
        le=10 * MAX_FRAMES_PER_S,
    )


class AppSettings(Section):
    """An app of the node."""

    app: AppWord = setting("its name; the executable is {apps_path}/{app}.v{version}")
    version: AppWord = setting("its version")
    auto_start: bool = setting("starts with the node; the command line's word goes over it", default=False)
    port: int = setting("where it takes loops; 0: it only dials", default=0, ge=0, lt=FIRST_FREE)
    args: tuple[str, ...] = setting("its arguments", default=())
    env: dict[str, str] = setting("its environment", default_factory=dict)
    restart: RestartPolicy | None = setting(
        "when to start it again that ended by itself; unset: on-failure with auto_start, else never", default=None
    )
    standby: bool = setting("two routes are held ready: a lost one is replaced without a setup node", default=False)
    limits: AppLimits = setting("bounds of this app", default=AppLimits())

    @property
    def executable(self) -> str:
        """The name of the file in `apps_path`."""
        return f"{self.app}.v{self.version}"


class RemoteAdmin(Section):
    """NodeAdmin over TCP, for an owner who is elsewhere: with a token, and beyond this machine with TLS."""

    listen: ListenAddress = setting("where NodeAdmin is served over TCP")
    token_file: Annotated[Path, AfterValidator(_token_file)] = setting("what a caller must bring; mode 0600")
    tls: TlsFiles | None = setting("its TLS; may be left out on loopback alone", default=None)

    @model_validator(mode="after")
    def _secret_on_its_way(self) -> Self:
        if not is_loopback(self.listen) and (self.tls is None or not self.tls.certificate or not self.tls.key):
            raise ValueError("a token goes beyond this machine over TLS only: give tls.certificate and tls.key")
        return self


class Interfaces(Section):
    """Where the node listens."""

    link: ListenAddress = setting("where links are accepted", default="127.0.0.1:0")
    control: ListenAddress = setting("NodeControl, for setup nodes", default="127.0.0.1:0")
    metrics: ListenAddress = setting("GET /metrics", default="127.0.0.1:0")
    admin: SocketPath = setting("the owner's unix socket, mode 0600")
    # What other nodes shall dial where it is not what was bound, for example behind NAT.
    announced_link: Address | None = setting("what others dial for links; unset: what was bound", default=None)
    announced_control: Address | None = setting("what setup nodes dial; unset: what was bound", default=None)
    admin_remote: RemoteAdmin | None = setting("NodeAdmin over TCP too", default=None)
    control_tls: TlsFiles | None = setting("TLS of the control interface", default=None)
    metrics_tls: TlsFiles | None = setting("TLS of the metrics interface", default=None)
    health: ListenAddress | None = setting("grpc.health.v1 alone, in plain text, for probes", default=None)


class Limits(Section):
    """Bounds that an owner may want to change; the others are constants."""

    max_rules: int = setting("routing rules", default=200_000, ge=16)
    max_hops: int = setting("longest route with this node; 0: no limit of its own", unit="hops", default=0, ge=0, le=32)
    idle_limit_s: float | None = setting(
        "used rules that no packet uses end after it; unset: 180, six keep-alives of a loop",
        unit="s",
        default=None,
        ge=30,
    )
    idle_loop_s: float | None = setting(
        "loops over which no app sends anything end after it; unset: never", unit="s", default=None, gt=0
    )
    patience_s: float = setting("how long a loop waits for a new route", unit="s", default=60.0, gt=0)


class NodeSettings(ServiceSettings):
    """Everything in the node's file."""

    node: Identity = setting("who the node is")
    # Optional, so that a first start needs nothing: such a node links and routes for the neighbours it is told of.
    transport_discovery: Peer | None = setting("the discovery; without it only configured addresses", default=None)
    setup_nodes: tuple[Peer, ...] = setting(
        "asked for loops, in this order; one that failed stands last for 30 s", default=(), max_length=MAX_SETUP_NODES
    )
    # Keys that may call NodeControl: setup nodes. Asking one under `setup_nodes` for a loop is no reason to obey it.
    trusted_nodes: tuple[HexKey, ...] = setting("keys of setup nodes that may install rules here", default=())
    transports: tuple[TransportSettings, ...] = setting("kept up", default=(), max_length=MAX_TRANSPORTS)
    transport_types: tuple[TransportTypeSettings, ...] = setting(
        "types of transports beside tcp", default=(), max_length=MAX_TYPES
    )
    apps: tuple[AppSettings, ...] = setting("the node's apps", default=(), max_length=MAX_APPS)
    apps_path: Directory = setting(
        "where executables {app}.v{version} are", default=Path("apps"), validate_default=True
    )
    local_path: Directory = setting(
        "the node's own files, and {app}/v{version} for each app", default=Path("local"), validate_default=True
    )
    interfaces: Interfaces = setting("where it listens")
    limits: Limits = setting("bounds", default=Limits())
    heartbeat_s: float = setting(
        "between heartbeats, ±20 %; the discovery's lease is three times as long", unit="s", default=20.0, gt=0, le=30
    )

    def without_tls(self) -> list[Open]:
        """Name the listeners and channels that have no TLS; links have Noise."""
        shown = self.interfaces
        listeners = [
            *([] if shown.control_tls else [Open("interfaces.control", shown.control)]),
            *([] if shown.metrics_tls else [Open("interfaces.metrics", shown.metrics)]),
        ]
        peers = [(f"setup_nodes.{at}", peer) for at, peer in enumerate(self.setup_nodes)]
        if self.transport_discovery is not None:
            peers.insert(0, ("transport_discovery", self.transport_discovery))
        return listeners + [Open(key, peer.address) for key, peer in peers if peer.tls is None]

    def trusted(self) -> frozenset[PublicKey]:
        """Return the keys that may call NodeControl."""
        return frozenset(self.trusted_nodes)

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        _check_ports(self)
        try:
            check_distinct((app.app, app.port) for app in self.apps)
        except LocalError as error:
            raise ValueError(str(error)) from error
        for app in self.apps:
            if app.port:
                _check_reserved(app)
        names = [app.app for app in self.apps]
        if len(set(names)) != len(names):
            raise ValueError(f"app {max(names, key=names.count)} is named twice")
        named = [one.type for one in self.transport_types]
        if len(set(named)) != len(named) or types.TCP in named:
            raise ValueError("transport_types names each type once, and not tcp, which interfaces.link is for")
        for transport in self.transports:
            if transport.type not in (*types.OWN, *named):
                raise ValueError(f"no transports of type {transport.type}: transport_types does not name it")
        remotes = [(transport.public_key, transport.type, transport.public) for transport in self.transports]
        if len(set(remotes)) != len(remotes):
            raise ValueError("two transports to the same node, of the same type and visibility")
        return self


def _check_reserved(app: AppSettings) -> None:
    try:
        check_configured(app.port, app.app)
    except Failure as failure:
        raise ValueError(failure.cause) from failure


def _check_ports(settings: NodeSettings) -> None:
    """Check that no two listeners want one port of one address; raises ValueError that names both."""
    shown = settings.interfaces
    wanted = {f"interfaces.{name}": getattr(shown, name) for name in ("link", "control", "metrics", "health")}
    wanted["interfaces.admin_remote"] = shown.admin_remote.listen if shown.admin_remote is not None else None
    wanted |= {f"transport_types ({one.type})": one.listen for one in settings.transport_types}
    owners: dict[str, str] = {}
    for key, address in wanted.items():
        if address is not None and not address.endswith(":0"):
            owner = owners.setdefault(address, key)
            if owner != key:
                raise ValueError(f"{owner} and {key} both want {address}")


def first(directory: Path, key: Path) -> dict[str, Any]:
    """Return the document of a new node: everything in one directory, reachable from this machine."""
    return {
        "node": {"static_secret_key_file": str(key)},
        "apps_path": str(directory / "apps"),
        "local_path": str(directory / "local"),
        "interfaces": {
            "link": "127.0.0.1:0",
            "control": "127.0.0.1:0",
            "metrics": "127.0.0.1:0",
            "admin": str(directory / "admin.sock"),
        },
        "setup_nodes": [],
        "trusted_nodes": [],
        "transports": [],
        "apps": [],
    }
