"""What the discovery shows beside the counters of its calls: graph, leases, pool, queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from skywire_common.runtime.metrics import Readings

from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.upkeep import Upkeep

_PREFIX = "skywire_discovery"


def expose(collected: CollectorRegistry, registry: Registry, upkeep: Upkeep) -> None:
    """Add the readings to a registry of metrics."""
    feed = registry.feed
    database = registry.database

    def gauge(name: str, text: str, read: Callable[[], float]) -> None:
        Readings(collected, f"{_PREFIX}_{name}", text, lambda: {"": float(read())}, gauge=True)

    def counter(name: str, text: str, read: Callable[[], float]) -> None:
        Readings(collected, f"{_PREFIX}_{name}", text, lambda: {"": float(read())})

    def waiting() -> Mapping[str, float]:
        return {name: grouper.waiting for name, grouper in registry.groupers.items()}

    def up() -> Mapping[str, float]:
        return {database.dialect: 0.0 if upkeep.problem else 1.0}

    gauge("graph_nodes", "Nodes with a transport that is up.", lambda: feed.graph.node_count)
    gauge("graph_transports", "Transports that are up.", lambda: feed.graph.link_count)
    gauge("graph_age_seconds", "How long ago the graph was known to be current.", lambda: feed.age_ms / 1000)
    gauge("revision", "Revision of the registry that the graph is at.", lambda: feed.ring.revision)
    counter("graph_loads", "Times that the graph was loaded whole.", lambda: feed.ring.generation)
    gauge("watchers", "Open streams of WatchTransports.", lambda: feed.ring.watchers)
    gauge("database_connections", "Connections to the database in use.", lambda: database.pool_counts()[0])
    gauge("database_connections_max", "Connections that there may be.", lambda: database.pool_counts()[1])
    Readings(collected, f"{_PREFIX}_database_up", "1 while the database answers.", up, label="database", gauge=True)
    Readings(
        collected, f"{_PREFIX}_requests_waiting", "Requests that wait for a round.", waiting, label="group", gauge=True
    )
    counter("leases_ended", "Leases that ended.", lambda: upkeep.leases_ended)
    counter("rows_pruned", "Rows that were forgotten.", lambda: upkeep.rows_pruned)
