"""The configuration of the discovery."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from skywire_common.runtime.config import KeyFile, ListenAddress, Section, ServiceSettings, TlsFiles
from sqlalchemy.exc import ArgumentError

from skywire_transport_discovery.store.database import check_url
from skywire_transport_discovery.store.transports import MAX_TRANSPORTS_PER_NODE


class Interfaces(Section):
    """Where to listen, "host:port"; port 0 takes any free one."""

    grpc: ListenAddress = "127.0.0.1:0"
    http: ListenAddress = "127.0.0.1:0"


class Limits(Section):
    """What one key may have and do."""

    transports_per_node: int = Field(default=MAX_TRANSPORTS_PER_NODE, ge=1)
    # Entries in RegisterTransports and ReconcileTransports; a node reconciles all of its transports twice a minute.
    registrations_per_minute: int = Field(default=10 * MAX_TRANSPORTS_PER_NODE, ge=1)


class Settings(ServiceSettings):
    """Everything that the file may say."""

    secret_key_file: KeyFile
    # sqlite+aiosqlite:////path/to/file (one process) or postgresql+psycopg://user@host/name (any number of replicas);
    # a secret, since it may hold a password.
    database_url: SecretStr
    interfaces: Interfaces = Interfaces()
    grpc_tls: TlsFiles | None = None
    limits: Limits = Limits()

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        try:
            check_url(url.get_secret_value())
        except ArgumentError:
            # SQLAlchemy's text repeats the URL, and with it the password.
            raise ValueError("not a URL of a database") from None
        return url
