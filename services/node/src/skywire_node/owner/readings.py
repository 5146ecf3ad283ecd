"""What the node shows to Prometheus beside the counters of its calls: one name for one thing in one unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry
from skywire_common.drops import DropReason
from skywire_common.runtime.metrics import Readings

from skywire_node.apps.run import AppState
from skywire_node.plane import DataPlane

_PREFIX = "skywire_node"


def export(
    registry: CollectorRegistry,
    plane: DataPlane,
    *,
    ready: Callable[[], bool],
    apps: Callable[[], Mapping[str, int]],
) -> None:
    """Add the readings to a registry of metrics; `apps` counts the node's apps by state."""
    table, router, loops = plane.table, plane.router, plane.loops

    def counter(name: str, text: str, read: Callable[[], float]) -> None:
        Readings(registry, f"{_PREFIX}_{name}", text, lambda: {"": float(read())})

    def gauge(name: str, text: str, read: Callable[[], float]) -> None:
        Readings(registry, f"{_PREFIX}_{name}", text, lambda: {"": float(read())}, gauge=True)

    def by(label: str, name: str, text: str, read: Callable[[], Mapping[str, float]], *, now: bool = False) -> None:
        Readings(registry, f"{_PREFIX}_{name}", text, read, label=label, gauge=now)

    def transports() -> dict[str, float]:
        up = len(router.links)
        return {"up": float(up), "down": float(len(plane.transports.all) - up)}

    gauge("ready", "1 if the node is READY, 0 if it is DEGRADED or stops.", ready)
    counter("forwarded_packets", "Packets forwarded from link to link.", lambda: router.forwarded)
    counter("forwarded_bytes", "Bytes forwarded from link to link.", lambda: router.forwarded_bytes)
    by(
        "reason",
        "packets_dropped",
        "Packets dropped, by reason.",
        lambda: {reason.value: float(router.dropped[reason]) for reason in DropReason},
    )
    by(
        "reason",
        "traces_ignored",
        "Trace records that were malformed, forged, repeated or too many, by reason.",
        lambda: {reason: float(count) for reason, count in plane.tracing.ignored.items()},
    )
    counter("rules_refused", "Renewals and removals of rules for who is no edge of their loop.", lambda: table.refused)
    by(
        "reason",
        "loops_refused",
        "Loops and closings that no honest node asks for, by reason.",
        lambda: {reason: float(count) for reason, count in loops.refused.items()},
    )
    by(
        "reason",
        "signals_ignored",
        "Route errors and teardowns that were not heeded, by reason.",
        lambda: {reason: float(count) for reason, count in plane.signals.ignored.items()},
    )
    gauge("rules", "Routing rules.", lambda: len(table.rules))
    gauge("rules_orphaned", "Rules whose set-up never finished.", lambda: table.orphaned(time.monotonic()))
    gauge("reservations", "Route ids set aside without rules.", lambda: table.reserved)
    gauge("loops", "Loops that end here.", lambda: len(loops.by_id))
    gauge(
        "loops_with_standby",
        "Loops with a second pair of routes.",
        lambda: sum(loop.offered is not None for loop in loops.by_id.values()),
    )
    gauge("traces_pending", "Traces passed on that no answer has come back for.", lambda: plane.tracing.pending)
    by("state", "transports", "Transports, by whether they are up.", transports, now=True)
    gauge(
        "link_queue_bytes", "Bytes that wait for links.", lambda: sum(link.queued for link in plane.transports.links())
    )
    by("state", "apps", "Apps, by state.", lambda: _every_state(apps()), now=True)


def _every_state(apps: Mapping[str, int]) -> dict[str, float]:
    """Show every state from the start, so that none appears and vanishes."""
    return {state.value: float(apps.get(state.value, 0)) for state in AppState}
