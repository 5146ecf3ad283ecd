"""Put the discovery together: one process with gRPC and HTTP on one loop."""

from __future__ import annotations

import importlib.metadata

from skywire.transport_discovery.v1 import transport_discovery_pb2_grpc as pb_grpc
from skywire_common.curve import SecretKey
from skywire_common.errors import LocalError
from skywire_common.rpc.beside import listen_beside
from skywire_common.rpc.server import Access, RpcServer
from skywire_common.runtime import metrics
from skywire_common.runtime.config import ConfigError
from skywire_common.runtime.service import Ready, Scope

from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.feed import Feed
from skywire_transport_discovery.http.server import App, Counted, Later, serve
from skywire_transport_discovery.limits import Quotas
from skywire_transport_discovery.readings import expose
from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.rpc.directory import NodeDirectory
from skywire_transport_discovery.rpc.routes import RouteFinder
from skywire_transport_discovery.rpc.transports import TransportDiscovery
from skywire_transport_discovery.store.database import Database
from skywire_transport_discovery.upkeep import Upkeep

NAME, DISTRIBUTION = "skywire-discovery", "skywire-transport-discovery"
PACKAGE = "skywire.transport_discovery.v1"
TRANSPORTS, NODES, ROUTES = (f"{PACKAGE}.{name}" for name in ("TransportDiscovery", "NodeDirectory", "RouteFinder"))
ACCESS = {
    f"/{TRANSPORTS}/RegisterTransports": Access.SIGNED,
    f"/{TRANSPORTS}/GetTransport": Access.ANYONE,
    f"/{TRANSPORTS}/ListTransportsByEdge": Access.ANYONE,
    f"/{TRANSPORTS}/UpdateStatuses": Access.SIGNED,
    f"/{TRANSPORTS}/WatchTransports": Access.ANYONE,
    f"/{TRANSPORTS}/ReconcileTransports": Access.SIGNED,
    f"/{TRANSPORTS}/GetStatus": Access.ANYONE,
    f"/{NODES}/RegisterNode": Access.SIGNED,
    f"/{NODES}/ResolveNode": Access.ANYONE,
    f"/{NODES}/ListNodes": Access.ANYONE,
    f"/{ROUTES}/FindRoutes": Access.ANYONE,
}


async def start(settings: Settings, scope: Scope) -> Ready:
    """Open the database, listen, and return once it is known whether the database answers."""
    secret = SecretKey.load(settings.secret_key_file)
    url = settings.database_url.get_secret_value()
    try:
        database = Database(url)
    except LocalError as error:
        raise ConfigError(str(error)) from error
    scope.defer(database.close)
    registry = Registry(database, Feed(database), settings.limits.transports_per_node)
    scope.defer(registry.close)
    collected = metrics.new_registry()
    metrics.show_build(collected, NAME, DISTRIBUTION)

    server = RpcServer(secret, ACCESS, replays=registry, registry=collected, connection_age_s=settings.connection_age_s)
    server.add_process(NAME, DISTRIBUTION)

    def say_serving(serving: bool) -> None:
        server.serving(TRANSPORTS, serving)
        server.serving(NODES, serving)
        # Routes are found in memory; how old the graph is, the answer says.
        server.serving(ROUTES, registry.feed.loaded)

    upkeep = Upkeep(registry, scope.log, say_serving)
    expose(collected, registry, upkeep)
    quotas = Quotas(settings.limits.registrations_per_minute)
    version = importlib.metadata.version(DISTRIBUTION)
    server.add(
        pb_grpc.add_TransportDiscoveryServicer_to_server,
        TransportDiscovery(registry, quotas, secret.public, version, lambda: upkeep.problem),
        TRANSPORTS,
    )
    server.add(pb_grpc.add_NodeDirectoryServicer_to_server, NodeDirectory(registry), NODES)
    server.add(pb_grpc.add_RouteFinderServicer_to_server, RouteFinder(registry), ROUTES)

    def make_http() -> App:
        from skywire_transport_discovery.http.app import make_app

        return make_app(registry, quotas, lambda: upkeep.problem, collected)

    app = Counted(Later(make_http), collected)
    http = await serve(app, settings.interfaces.http, settings.grace_s, settings.http_tls)
    scope.defer(http.close)
    # Last deferred, first closed: no new calls while the rest goes on until those under way are answered.
    scope.defer(lambda: server.stop(scope.grace))
    interfaces = {"http": http.address, "grpc": await server.listen(settings.interfaces.grpc, settings.grpc_tls)}
    interfaces |= await listen_beside(server, settings.interfaces.health, settings.interfaces.admin)
    await server.start()
    scope.spawn(upkeep.follow(), "follow the log")
    scope.spawn(upkeep.sweep(), "end leases")
    scope.spawn(upkeep.prune(), "prune")
    if database.dialect == "postgresql":
        scope.spawn(upkeep.listen(url), "listen")
    await upkeep.tried()
    return Ready(secret.public, interfaces)
