"""Options of channels: names are balanced call by call and looked up again, numbers are left alone."""

from __future__ import annotations

import pytest
from skywire_common.rpc.options import MAX_MESSAGE, channel_options, server_options


@pytest.mark.parametrize(
    ("address", "balanced"),
    [
        ("discovery:7200", True),
        ("node-0.node.skywire.svc:7001", True),
        ("10.0.0.1:7200,10.0.0.2:7200", True),
        ("127.0.0.1:7200", False),
        ("[::1]:7200", False),
        ("unix:/run/skywire/admin.sock", False),
    ],
)
def test_a_name_may_be_several_and_each_call_goes_to_the_next(address: str, balanced: bool) -> None:
    options = dict(channel_options(MAX_MESSAGE, address))
    assert ("round_robin" in str(options.get("grpc.service_config"))) is balanced
    assert ("grpc.dns_min_time_between_resolutions_ms" in options) is balanced


def test_connections_grow_old_only_if_that_is_wanted() -> None:
    assert "grpc.max_connection_age_ms" not in dict(server_options(MAX_MESSAGE))
    assert dict(server_options(MAX_MESSAGE, 300))["grpc.max_connection_age_ms"] == 300_000
