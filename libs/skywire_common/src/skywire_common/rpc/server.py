"""A gRPC server as all three services run it: gate, health, reflection, listeners, an orderly end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import CollectorRegistry
from skywire.common.v1 import process_pb2_grpc

from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_common.keys import PublicKey
from skywire_common.rpc import health, process, reflection
from skywire_common.rpc.gate import Access, Gate, caller
from skywire_common.rpc.metrics import CallMetrics
from skywire_common.rpc.options import MAX_MESSAGE, server_options
from skywire_common.rpc.replays import ReplayGuard
from skywire_common.rpc.sockets import private_socket
from skywire_common.rpc.tls import TlsFiles, server_credentials
from skywire_common.runtime.listening import check_free

__all__ = ["Access", "RpcServer", "caller"]

UNIX = "unix:"
Servicer = TypeVar("Servicer")


def _nobody(key: PublicKey) -> bool:
    return False


class RpcServer:
    """One server with any number of services and listeners.

    `access` names every method by its full path ("/package.Service/Method") and says who may call it; a method that
    it does not name, or a name that no service has, is refused before the server starts. Make it, add, listen, start,
    say `serving`, stop: all in one running loop.
    """

    def __init__(
        self,
        secret: SecretKey,
        access: Mapping[str, Access],
        *,
        trusted: Callable[[PublicKey], bool] = _nobody,
        replays: ReplayGuard,
        registry: CollectorRegistry | None = None,
        max_message: int = MAX_MESSAGE,
        connection_age_s: float = 0,
        token: Callable[[], str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if token is None and Access.TOKEN in access.values():
            raise LocalError("methods for whoever brings the token, and no token")
        self._public_key = secret.public
        self._access = dict(access)
        self._added: list[str] = []
        # Reflection shows them; health does not, they serve as long as the process does.
        self._shown = [health.SERVICE]
        self._health = health.Health()
        own = dict.fromkeys([*reflection.methods(), *_methods_of(health.SERVICE)], Access.ANYONE) | process.ACCESS
        metrics = CallMetrics(registry if registry is not None else CollectorRegistry())
        self._gate = Gate(secret.public, self._access | own, trusted, replays, metrics, clock, token or (lambda: ""))
        self._server = grpc.aio.server(interceptors=[self._gate], options=server_options(max_message, connection_age_s))
        # For probes, which know no TLS: nothing but health, counted by nobody.
        uncounted = CallMetrics(CollectorRegistry())
        self._probes_gate = Gate(secret.public, own, _nobody, replays, uncounted, clock)
        self._probes: grpc.aio.Server | None = None

    def add(self, add_to_server: Callable[[Servicer, grpc.aio.Server], None], servicer: Servicer, service: str) -> None:
        """Add a service by its generated function and full name; raises LocalError if `access` misses a method."""
        for path, request_streaming in _methods_of(service).items():
            access = self._access.get(path)
            if access is None:
                raise LocalError(f"the access table does not say who may call {path}")
            if request_streaming and access in (Access.SIGNED, Access.TRUSTED):
                raise LocalError(f"{path} takes a stream of requests, which one signature cannot cover")
        add_to_server(servicer, self._server)
        self._added.append(service)
        self._health.set(service, serving=False)

    def add_process(self, name: str, distribution: str) -> None:
        """Add skywire.common.v1.Process for the command and the distribution that run here."""
        servicer = process.ProcessService(name, distribution, self._public_key)
        process_pb2_grpc.add_ProcessServicer_to_server(servicer, self._server)
        self._shown.append(process.SERVICE)

    async def listen(self, address: str, tls: TlsFiles | None = None) -> str:
        """Listen on "host:port" (0: any free port) or "unix:/path" (mode 0600); return the address that was bound.

        Raises Failure: CONFLICT if the address is taken or not ours, DUPLICATE_IDENTITY if another process listens on
        the socket.
        """
        if address.startswith(UNIX):
            path = Path(address.removeprefix(UNIX))
            with private_socket(path):
                self._bind(address, None)
            return address
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdigit():
            raise Failure(ErrorCode.INVALID_ARGUMENT, f"an address is HOST:PORT or unix:/PATH, not {address!r}")
        return f"{host}:{self._bind(address, tls)}"

    async def listen_for_probes(self, address: str) -> str:
        """Answer grpc.health.v1 and nothing else on "host:port", always in plain text, until all else has ended."""
        host = address.rpartition(":")[0]
        self._probes = grpc.aio.server(interceptors=[self._probes_gate], options=server_options(MAX_MESSAGE))
        return f"{host}:{self._bind(address, None, self._probes)}"

    def _bind(self, address: str, tls: TlsFiles | None, server: grpc.aio.Server | None = None) -> int:
        server = server or self._server
        if not address.startswith(UNIX):
            check_free(address)  # gRPC does not say why not, and prints lines of its own
        try:
            if tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, server_credentials(tls))
        except RuntimeError as error:
            # Of a unix socket all else was found out before (sockets.private_socket).
            why = "its directory cannot be written" if address.startswith(UNIX) else "taken, or not of this machine"
            raise Failure(ErrorCode.CONFLICT, f"cannot listen on {address}: {why}") from error

    async def start(self) -> None:
        """Take calls; every service says NOT_SERVING until `serving`."""
        served = {path for service in self._added for path in _methods_of(service)}
        unknown = sorted(self._access.keys() - served)
        if unknown:
            raise LocalError(f"the access table names methods that nobody serves: {', '.join(unknown)}")
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.add_to_server([*self._added, *self._shown], self._server)
        if self._probes is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._probes)
            await self._probes.start()
        await self._server.start()

    def serving(self, service: str, yes: bool) -> None:
        """Say in health whether a service serves."""
        if service not in self._added:
            raise LocalError(f"{service} was never added")
        self._health.set(service, serving=yes)

    async def stop(self, grace: float) -> None:
        """Say NOT_SERVING, end streams, refuse new calls, wait up to `grace` seconds for those under way."""
        await self._health.stop()
        self._gate.end_streams()
        await self._server.stop(grace)
        if self._probes is not None:
            await self._probes.stop(0)


def _methods_of(service: str) -> dict[str, bool]:
    """Return the full paths of a service's methods, each with whether it takes a stream of requests."""
    pool: Any = descriptor_pool.Default()
    try:
        descriptor = pool.FindServiceByName(service)
    except KeyError as error:
        raise LocalError(f"no service {service!r} in the protos that are loaded") from error
    return {f"/{service}/{method.name}": method.client_streaming for method in descriptor.methods}
