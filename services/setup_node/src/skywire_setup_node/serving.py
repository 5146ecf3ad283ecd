"""Put the setup node together: channels, installer, services."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry
from skywire.setup_node.v1 import setup_node_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.rpc.beside import listen_beside
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.replays import MemoryReplays
from skywire_common.rpc.server import RpcServer
from skywire_common.runtime import metrics
from skywire_common.runtime.scope import Scope
from skywire_common.runtime.service import Ready

from skywire_setup_node.config import SetupNodeSettings
from skywire_setup_node.directory import Directory
from skywire_setup_node.install import Installer
from skywire_setup_node.nodes import Nodes
from skywire_setup_node.service import ACCESS, SERVICE, SetupNodeService

NAME = "skywire-setup-node"


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def epoch(self) -> float:
        """Seconds since 1970."""
        return time.time()


async def start(settings: SetupNodeSettings, scope: Scope) -> Ready:
    """Open everything, inside out: channels first, so that they close last."""
    secret = SecretKey.load(settings.secret_key_file)
    clock = SystemClock()
    peer = settings.transport_discovery
    discovery = RpcChannel(peer.address, peer.public_key, secret, tls=peer.tls, server_name=peer.server_name)
    scope.defer(discovery.close)
    directory = Directory(discovery, secret, tls=settings.node_tls, plain_text=settings.plain_text)
    scope.defer(directory.close)
    nodes = Nodes(directory, clock)
    installer = Installer(nodes, clock, structlog.get_logger(part="install"))
    # Undo begun is undo finished, before the channels that it needs go.
    scope.defer(installer.drain)

    registry = metrics.new_registry()
    metrics.show_build(registry, NAME, NAME)
    _export(registry, installer, directory)
    listeners = settings.interfaces
    shown = await metrics.serve(registry, listeners.metrics, listeners.metrics_tls)
    scope.defer(shown.close)
    server = RpcServer(
        secret,
        ACCESS,
        replays=MemoryReplays(),
        registry=registry,
        connection_age_s=settings.connection_age_s,
    )
    server.add_process(NAME, NAME)
    server.add(pb_grpc.add_SetupNodeServicer_to_server, SetupNodeService(installer, nodes, clock), SERVICE)
    interfaces = {"grpc": await server.listen(listeners.grpc, listeners.grpc_tls), "metrics": shown.address}
    interfaces |= await listen_beside(server, listeners.health, listeners.admin)
    await server.start()
    scope.defer(lambda: server.stop(scope.grace))
    server.serving(SERVICE, yes=True)
    return Ready(secret.public, interfaces)


def _export(registry: CollectorRegistry, installer: Installer, directory: Directory) -> None:
    prefix = "skywire_setup_node"
    metrics.Readings(
        registry,
        f"{prefix}_setups",
        "Set-ups by how they ended.",
        lambda: {"made": installer.made, "failed": installer.failed},
        label="end",
    )
    metrics.Readings(
        registry,
        f"{prefix}_undo_failures",
        "Nodes at which a set-up could not be undone: there it ends with its lease.",
        lambda: {"": installer.not_undone},
    )
    for name, text, read in (
        ("setups_in_progress", "Set-ups under way.", lambda: installer.under_way),
        ("undos_in_progress", "Nodes at which a set-up is being undone.", lambda: installer.undoing),
        ("node_channels", "Channels to nodes that are open.", lambda: len(directory)),
    ):
        metrics.Readings(registry, f"{prefix}_{name}", text, _alone(read), gauge=True)


def _alone(read: Callable[[], float]) -> Callable[[], dict[str, float]]:
    return lambda: {"": read()}
