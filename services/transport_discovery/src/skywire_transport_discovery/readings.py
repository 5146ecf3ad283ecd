"""What the discovery shows beside the counters of its calls: graph, leases, pool, queues."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from skywire_common.runtime.metrics import Readings

from skywire_transport_discovery.registry import Registry
from skywire_transport_discovery.upkeep import Upkeep


def expose(collected: CollectorRegistry, registry: Registry, upkeep: Upkeep) -> None:
    """Add the readings to a registry of metrics."""
    feed = registry.feed

    def graph() -> Mapping[str, float]:
        return {"nodes": feed.graph.node_count, "transports": feed.graph.link_count, "watchers": feed.ring.watchers}

    def position() -> Mapping[str, float]:
        return {"revision": feed.ring.revision, "age_seconds": feed.age_ms / 1000, "loads": feed.ring.generation}

    def pool() -> Mapping[str, float]:
        used, size = registry.database.pool_counts()
        return {"in_use": used, "size": size}

    def waiting() -> Mapping[str, float]:
        return {name: grouper.waiting for name, grouper in registry.groupers.items()}

    def upkept() -> Mapping[str, float]:
        return {"leases_ended": upkeep.leases_ended, "rows_pruned": upkeep.rows_pruned}

    def serving() -> Mapping[str, float]:
        return {registry.database.dialect: 0.0 if upkeep.problem else 1.0}

    prefix = "skywire_discovery"
    Readings(collected, f"{prefix}_graph", "What the graph holds.", graph, label="what", gauge=True)
    Readings(collected, f"{prefix}_feed", "Where the graph is in the log.", position, label="what", gauge=True)
    Readings(collected, f"{prefix}_pool", "Connections to the database.", pool, label="what", gauge=True)
    Readings(collected, f"{prefix}_waiting", "Requests that wait for a round.", waiting, label="group", gauge=True)
    Readings(collected, f"{prefix}_upkeep", "What was ended and forgotten.", upkept, label="what")
    Readings(collected, f"{prefix}_serving", "1 while the database answers.", serving, label="database", gauge=True)
