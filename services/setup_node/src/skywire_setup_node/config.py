"""The setup node's configuration: a JSON file, overruled by the environment (docs/configuration.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skywire_common.runtime.config import (
    KeyFile,
    ListenAddress,
    Open,
    Peer,
    Section,
    ServiceSettings,
    SocketPath,
    TlsFiles,
    setting,
)


class Interfaces(Section):
    """Where the setup node listens."""

    grpc: ListenAddress = setting("SetupNode, for nodes", default="127.0.0.1:0")
    metrics: ListenAddress = setting("GET /metrics", default="127.0.0.1:0")
    grpc_tls: TlsFiles | None = setting("TLS of the grpc interface", default=None)
    metrics_tls: TlsFiles | None = setting("TLS of the metrics interface", default=None)
    health: ListenAddress | None = setting("grpc.health.v1 alone, in plain text, for probes", default=None)
    admin: SocketPath | None = setting("the owner's unix socket, mode 0600: the log level", default=None)


class SetupNodeSettings(ServiceSettings):
    """Everything in the setup node's file."""

    secret_key_file: KeyFile = setting("its key, 64 hex digits, mode 0600; nodes name it in trusted_nodes")
    transport_discovery: Peer = setting("the discovery that says where nodes are")
    interfaces: Interfaces = setting("where it listens", default=Interfaces())
    node_tls: TlsFiles | None = setting(
        "TLS of the calls to nodes whose control interface has it; unset: the system's authorities are believed",
        default=None,
    )
    connection_age_s: float = setting(
        "after it a node is asked to connect anew; 0: never", unit="s", default=0.0, ge=0, le=86_400
    )

    def without_tls(self) -> list[Open]:
        """Name the listeners and channels that have no TLS; those to nodes have it if the nodes do (directory)."""
        shown, peer = self.interfaces, self.transport_discovery
        return [
            *([] if peer.tls is not None else [Open("transport_discovery", peer.address)]),
            *([] if shown.grpc_tls else [Open("interfaces.grpc", shown.grpc)]),
            *([] if shown.metrics_tls else [Open("interfaces.metrics", shown.metrics)]),
        ]


def first(_: Path, key: Path) -> dict[str, Any]:
    """Return the document of a new setup node; its discovery has to be added."""
    return {"secret_key_file": str(key), "interfaces": {"grpc": "127.0.0.1:7100", "metrics": "127.0.0.1:0"}}
