"""The node's configuration: a JSON file, overruled by the environment (docs/configuration.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from skywire_common.curve import SecretKey
from skywire_common.keys import PublicKey
from skywire_common.runtime.config import (
    Address,
    HexKey,
    KeyFile,
    ListenAddress,
    Peer,
    Section,
    ServiceSettings,
    TlsFiles,
)

from skywire_node.apps.restart import RestartPolicy

MAX_APPS = 256
MAX_TRANSPORTS = 1_024
MAX_SETUP_NODES = 16
# Below it ports are reserved for named apps (wire.md, App pipe); from 49152 up they are for dialling loops.
FIRST_DIALLING_PORT = 49_152
# What the kernel takes for a unix socket's path, with its end.
MAX_SOCKET_PATH = 107
_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


def _app_word(value: str) -> str:
    """Check a name or version that becomes part of a path."""
    if not _APP_NAME.fullmatch(value) or ".." in value:
        raise ValueError("letters, digits, '.', '_' and '-', at most 64, the first one a letter or digit")
    return value


def _socket_path(value: Path) -> Path:
    if len(str(value).encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"the path of a unix socket has at most {MAX_SOCKET_PATH} bytes: choose a shorter one")
    return value


AppWord = Annotated[str, AfterValidator(_app_word)]


class Identity(Section):
    """Who the node is."""

    static_secret_key_file: KeyFile
    # Optional, so that a wrong key file is noticed before anyone is talked to.
    static_public_key: HexKey | None = None

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

    public_key: HexKey
    type: Literal["tcp"] = "tcp"
    public: bool = True
    # Where the other node takes links; without it the discovery is asked.
    address: Address | None = None


class AppSettings(Section):
    """An app of the node."""

    app: AppWord
    version: AppWord
    auto_start: bool = False
    # 0: the app takes no loops, it only dials.
    port: int = Field(default=0, ge=0, lt=FIRST_DIALLING_PORT)
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict)
    # When to start it again that ended by itself; by default on-failure if it starts with the node, else never.
    restart: RestartPolicy | None = None
    # Two routes held ready: a lost one is replaced without a setup node.
    standby: bool = False

    @property
    def executable(self) -> str:
        """The name of the file in `apps_path`."""
        return f"{self.app}.v{self.version}"


class Interfaces(Section):
    """Where the node listens."""

    link: ListenAddress = "127.0.0.1:0"
    control: ListenAddress = "127.0.0.1:0"
    metrics: ListenAddress = "127.0.0.1:0"
    admin: Annotated[Path, AfterValidator(_socket_path)]
    # What other nodes shall dial where it is not what was bound, for example behind NAT.
    announced_link: Address | None = None
    announced_control: Address | None = None
    control_tls: TlsFiles | None = None


class Limits(Section):
    """Bounds that an owner may want to change; the others are constants."""

    max_rules: int = Field(default=200_000, ge=16)
    # 0: no limit of this node's own.
    max_hops: int = Field(default=0, ge=0, le=32)
    # Seconds after which used rules that no packet uses end; unset: 180, six keep-alives of a loop.
    idle_limit_s: float | None = Field(default=None, ge=30)
    # Seconds that a loop waits for a new route.
    patience_s: float = Field(default=60.0, gt=0)


class NodeSettings(ServiceSettings):
    """Everything in the node's file."""

    node: Identity
    transport_discovery: Peer
    setup_nodes: tuple[Peer, ...] = Field(default=(), max_length=MAX_SETUP_NODES)
    # Keys that may call NodeControl: setup nodes. Asking one under `setup_nodes` for a loop is no reason to obey it.
    trusted_nodes: tuple[HexKey, ...] = ()
    transports: tuple[TransportSettings, ...] = Field(default=(), max_length=MAX_TRANSPORTS)
    apps: tuple[AppSettings, ...] = Field(default=(), max_length=MAX_APPS)
    apps_path: Path = Path("apps")
    local_path: Path = Path("local")
    interfaces: Interfaces
    limits: Limits = Limits()
    # Seconds between heartbeats, ±20 %; the discovery's lease is three times as long.
    heartbeat_s: float = Field(default=20.0, gt=0, le=30)

    def trusted(self) -> frozenset[PublicKey]:
        """Return the keys that may call NodeControl."""
        return frozenset(self.trusted_nodes)

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        owners: dict[int, str] = {}
        for app in self.apps:
            owner = owners.setdefault(app.port, app.app) if app.port else app.app
            if owner != app.app:
                raise ValueError(f"apps {owner} and {app.app} both want port {app.port}")
        names = [app.app for app in self.apps]
        if len(set(names)) != len(names):
            raise ValueError(f"app {max(names, key=names.count)} is named twice")
        remotes = [(transport.public_key, transport.type, transport.public) for transport in self.transports]
        if len(set(remotes)) != len(remotes):
            raise ValueError("two transports to the same node, of the same type and visibility")
        return self
