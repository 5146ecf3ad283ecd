"""Ask a process for its health by grpc.health.v1."""

from __future__ import annotations

from grpc_health.v1 import health_pb2

from skywire_common.rpc.client import RpcChannel

PATH = "/grpc.health.v1.Health/Check"


async def state_of(channel: RpcChannel, service: str, timeout: float) -> str:
    """Return the state that a service says it is in, "SERVING" or another of the proto's, within `timeout` seconds.

    Raises Failure: NOT_FOUND for a service that is not there, and whatever befalls a call.
    """
    request = health_pb2.HealthCheckRequest(service=service)
    answer = await channel.call(PATH, request, health_pb2.HealthCheckResponse, timeout=timeout, signed=False)
    state: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return state
