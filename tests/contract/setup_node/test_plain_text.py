"""A setup node beyond loopback: to nodes without TLS only if its configuration says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.setup_node.network import Network
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.rpc.client import RpcChannel
from skywire_setup_node.directory import Directory

ELSEWHERE = "node-1.example:7001"


@pytest.mark.parametrize("plain_text", [False, True])
async def test_a_node_without_tls_is_called_beyond_this_machine_only_if_that_is_allowed(
    tmp_path: Path, plain_text: bool
) -> None:
    network = Network(tmp_path, size=1)
    await network.begin()
    [node] = network.nodes
    secret = SecretKey.generate()
    peer = network.settings.transport_discovery
    discovery = RpcChannel(peer.address, peer.public_key, secret)
    directory = Directory(discovery, secret, plain_text=plain_text)
    async with directory.channel(node.public_key) as channel:
        assert channel.address == node.address
        directory.forget(node.public_key, channel)
    network.discovery.addresses[node.public_key] = ELSEWHERE
    if plain_text:
        async with directory.channel(node.public_key) as channel:
            assert channel.address == ELSEWHERE
    else:
        with pytest.raises(Failure, match="without TLS only") as caught:
            async with directory.channel(node.public_key):
                pass
        assert caught.value.code is ErrorCode.UNAVAILABLE
        assert not len(directory)
    await directory.close()
    await discovery.close()
    await network.end()
