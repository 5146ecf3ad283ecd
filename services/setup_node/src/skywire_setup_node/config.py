"""The setup node's configuration: a JSON file, overruled by the environment (docs/configuration.md)."""

from __future__ import annotations

from skywire_common.runtime.config import KeyFile, ListenAddress, Peer, Section, ServiceSettings, TlsFiles


class Interfaces(Section):
    """Where the setup node listens."""

    grpc: ListenAddress = "127.0.0.1:0"
    metrics: ListenAddress = "127.0.0.1:0"
    grpc_tls: TlsFiles | None = None


class SetupNodeSettings(ServiceSettings):
    """Everything in the setup node's file."""

    secret_key_file: KeyFile
    transport_discovery: Peer
    interfaces: Interfaces = Interfaces()
