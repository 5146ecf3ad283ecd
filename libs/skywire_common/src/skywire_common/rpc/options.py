"""Options of every channel and server. gRPC ignores names that it does not know, so each was tried."""

from __future__ import annotations

import ipaddress

MAX_MESSAGE = 4 << 20

_KEEPALIVE: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Without this one a frozen peer is noticed after 63 s.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


# A client that finds several addresses under one name connects to all, and each call goes to the next one that is
# ready: what lies behind a headless Service shares the load, and one that goes takes no call with it.
_OF_A_NAME: tuple[tuple[str, int | str], ...] = (
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
    # Otherwise a name is looked up again after half a minute at the earliest, whatever has moved.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
)
# After a connection was too old: what calls and streams on it get to end.
AGED_GRACE_S = 30.0


def server_options(max_message: int, connection_age_s: float = 0) -> list[tuple[str, int]]:
    """Return the options of a server that takes requests of up to `max_message` bytes.

    After `connection_age_s` (±10 %, by gRPC) a client is asked to connect anew, and so to look its name up again:
    without it nobody comes to a replica that is new. 0: never.
    """
    aged: list[tuple[str, int]] = [
        ("grpc.max_connection_age_ms", int(connection_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", int(AGED_GRACE_S * 1000)),
    ]
    return [
        *(aged if connection_age_s else ()),
        *_KEEPALIVE,
        # Clients ping every 20 s; the default forbids more than one in 5 minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        # With port sharing a second process binds the same port in silence.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message),
        # No grpc.max_concurrent_streams: at that bound some calls fail with RST_STREAM, without a word why. The gate
        # bounds calls and says so.
    ]


def target(address: str) -> str:
    """Return gRPC's name of "host:port", of "unix:/path", or of replicas: "ip:port,ip:port"."""
    if "," not in address:
        return address
    return f"{'ipv6' if address.startswith('[') else 'ipv4'}:{address}"


def channel_options(max_message: int, address: str = "") -> list[tuple[str, int | str]]:
    """Return the options of a channel to an address that takes answers of up to `max_message` bytes."""
    return [
        *_KEEPALIVE,
        *(_OF_A_NAME if _is_name(address) else ()),
        ("grpc.max_receive_message_length", max_message),
        # Addresses are of nodes and services; a proxy in the environment is for other traffic.
        ("grpc.enable_http_proxy", 0),
        # The defaults wait up to two minutes for a peer that is back already.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # This one is also what a single attempt to connect may take.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A channel made anew starts anew: it does not share the back-off of one that failed.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def _is_name(address: str) -> bool:
    """Say whether "host:port" names its host, so that there may be several."""
    host = address.rpartition(":")[0].strip("[]")
    if not host or address.startswith("unix:"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
