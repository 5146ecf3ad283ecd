"""What calls cost and how they end, in Prometheus' usual names. Children are made once per method and kept."""

from __future__ import annotations

import time
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram

from skywire_common.rpc.identity import Reason

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallMetrics:
    """The server's counters in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter("grpc_server_started", "Calls begun.", _METHOD, registry=registry)
        self._handled = Counter(
            "grpc_server_handled", "Calls ended, by code.", (*_METHOD, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Seconds a call took.", _METHOD, registry=registry, buckets=_BUCKETS
        )
        self._refused = Counter(
            "skywire_rpc_refused",
            "Calls refused before their handler, by reason.",
            ("reason", "grpc_service", "grpc_method"),
            registry=registry,
        )

    def method(self, kind: str, path: str, *, refuses: bool) -> MethodMetrics:
        """Return the counters of one method; `path` is "/package.Service/Method", kind "unary" or "server_stream".

        Those of a method that refuses callers show every reason from the start, so that a rate sees the first one.
        """
        _, service, method = path.split("/")
        labels = _Labels(kind, service, method)
        for reason in Reason if refuses else ():
            self._refused.labels(reason.value, service, method)
        return MethodMetrics(
            self._started.labels(*labels), self._handled, self._seconds.labels(*labels), self._refused, labels
        )


class _Labels(NamedTuple):
    kind: str
    service: str
    method: str


class MethodMetrics:
    """The counters of one method."""

    def __init__(
        self, started: Counter, handled: Counter, seconds: Histogram, refused: Counter, labels: _Labels
    ) -> None:
        self._started = started
        self._handled = handled
        self._seconds = seconds
        self._refused = refused
        self._labels = labels
        self._by_code: dict[str, Counter] = {}

    def begin(self) -> float:
        """Count a call; return the monotonic time at which it began."""
        self._started.inc()
        return time.perf_counter()

    def end(self, began: float, code: str) -> None:
        """Count the end of a call that began at `began`; code is the name of its gRPC status."""
        child = self._by_code.get(code)
        if child is None:
            child = self._by_code[code] = self._handled.labels(*self._labels, code)
        child.inc()
        self._seconds.observe(time.perf_counter() - began)

    def refused(self, reason: Reason) -> None:
        """Count a call that never reached its handler."""
        self._refused.labels(reason.value, self._labels.service, self._labels.method).inc()
