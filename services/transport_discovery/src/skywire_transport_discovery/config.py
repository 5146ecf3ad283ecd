"""The configuration of the discovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr, field_validator
from skywire_common.runtime.config import (
    KeyFile,
    ListenAddress,
    Open,
    Section,
    ServiceSettings,
    SocketPath,
    TlsFiles,
    setting,
)
from sqlalchemy.exc import ArgumentError

from skywire_transport_discovery.store.database import check_url
from skywire_transport_discovery.store.transports import MAX_TRANSPORTS_PER_NODE


class Interfaces(Section):
    """Where to listen, "host:port"; port 0 takes any free one."""

    grpc: ListenAddress = setting("the services over gRPC", default="127.0.0.1:0")
    http: ListenAddress = setting("the original's HTTP API and GET /metrics", default="127.0.0.1:0")
    health: ListenAddress | None = setting("grpc.health.v1 alone, in plain text, for probes", default=None)
    admin: SocketPath | None = setting("the owner's unix socket, mode 0600: the log level", default=None)


class Limits(Section):
    """What one key may have and do."""

    transports_per_node: int = setting("that one key may register", default=MAX_TRANSPORTS_PER_NODE, ge=1)
    # Entries in RegisterTransports, and in ReconcileTransports if the list differs from the registry: a node sends its
    # whole list twice a minute.
    registrations_per_minute: int = setting(
        "entries that one key may register", unit="per minute", default=10 * MAX_TRANSPORTS_PER_NODE, ge=1
    )


class Settings(ServiceSettings):
    """Everything that the file may say."""

    secret_key_file: KeyFile = setting("its key, 64 hex digits, mode 0600; everyone names it")
    # sqlite+aiosqlite:////path/to/file (one process) or postgresql+psycopg://user@host/name (any number of replicas);
    # a secret, since it may hold a password.
    database_url: SecretStr = setting("sqlite+aiosqlite:////path/to/file, or postgresql+psycopg://user@host/name")
    interfaces: Interfaces = setting("where it listens", default=Interfaces())
    grpc_tls: TlsFiles | None = setting("TLS of the grpc interface", default=None)
    http_tls: TlsFiles | None = setting("TLS of the http interface", default=None)
    connection_age_s: float = setting(
        "after it a client is asked to connect anew; 0: never", unit="s", default=0.0, ge=0, le=86_400
    )
    limits: Limits = setting("what one key may have and do", default=Limits())

    def without_tls(self) -> list[Open]:
        """Name the listeners that have no TLS."""
        return [
            *([] if self.grpc_tls else [Open("interfaces.grpc", self.interfaces.grpc)]),
            *([] if self.http_tls else [Open("interfaces.http", self.interfaces.http)]),
        ]

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        try:
            check_url(url.get_secret_value())
        except ArgumentError:
            # SQLAlchemy's text repeats the URL, and with it the password.
            raise ValueError("not a URL of a database") from None
        return url


def first(directory: Path, key: Path) -> dict[str, Any]:
    """Return the document of a new discovery: SQLite beside the key."""
    return {
        "secret_key_file": str(key),
        "database_url": f"sqlite+aiosqlite:///{directory / 'discovery.db'}",
        "interfaces": {"grpc": "127.0.0.1:7200", "http": "127.0.0.1:7201"},
    }
