"""grpc.health.v1: NOT_SERVING from the start until said otherwise, and for good once stopping.

The package's own servicer is SERVING from construction and sets a status only under await; this one is a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from skywire_common.errors import ErrorCode, Failure

SERVICE = "grpc.health.v1.Health"
_SERVING: int = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: int = health_pb2.HealthCheckResponse.NOT_SERVING
FAREWELL_S = 0.5
# The empty name is the whole server: serving if every service is.
WHOLE = ""
# And this one the process: serving as long as it answers, whatever it waits for. For probes that end processes.
ALIVE = "alive"


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The state of each service of one server."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._stopped = False
        self._changed = asyncio.Event()
        self._watchers = 0
        self._unwatched = asyncio.Event()

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service serves; nothing serves any more after `stop`."""
        self._serving[service] = serving and not self._stopped
        self._changed.set()
        self._changed = asyncio.Event()

    async def stop(self) -> None:
        """Say NOT_SERVING for every service from now on, and wait for FAREWELL_S at most until all watchers know."""
        self._stopped = True
        for service in self._serving:
            self.set(service, serving=False)
        if self._watchers:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._unwatched.wait(), FAREWELL_S)

    def _status(self, service: str) -> int | None:
        if service == WHOLE:
            serving = bool(self._serving) and all(self._serving.values())
        elif service == ALIVE:
            serving = True
        elif service in self._serving:
            serving = self._serving[service]
        else:
            return None
        return _SERVING if serving else _NOT_SERVING

    async def Check(  # noqa: N802 -- the proto's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """Answer with the state now; NOT_FOUND for a service that is not here."""
        status = self._status(request.service)
        if status is None:
            raise Failure(ErrorCode.NOT_FOUND, f"no service {request.service[:100]!r} here")
        return health_pb2.HealthCheckResponse(status=status)

    async def List(  # noqa: N802
        self, request: health_pb2.HealthListRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthListResponse:
        """Answer with the state of every service."""
        return health_pb2.HealthListResponse(
            statuses={
                service: health_pb2.HealthCheckResponse(status=self._status(service))
                for service in (WHOLE, ALIVE, *self._serving)
            }
        )

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """Send the state now, then each change; the stream ends after the last one."""
        sent = None
        self._watchers += 1
        self._unwatched.clear()
        try:
            while True:
                changed = self._changed
                status = self._status(request.service)
                if status is None:
                    status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
                if status != sent:
                    yield health_pb2.HealthCheckResponse(status=status)
                    sent = status
                if self._stopped:
                    return
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._unwatched.set()
