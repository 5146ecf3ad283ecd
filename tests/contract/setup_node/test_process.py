"""The setup node as a process: the command, the ready file, metrics, an orderly end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from pathlib import Path

from contract.setup_node.network import Network
from skywire_common.rpc.client import RpcChannel


async def test_the_command_serves_says_so_and_ends_in_order(tmp_path: Path) -> None:
    network = Network(tmp_path)
    await network.begin()
    ready_file, config = tmp_path / "ready.json", tmp_path / "setup.json"
    peer = network.settings.transport_discovery
    config.write_text(
        json.dumps(
            {
                "secret_key_file": str(network.key_file),
                "transport_discovery": {"address": peer.address, "public_key": str(peer.public_key)},
                "interfaces": {"grpc": "127.0.0.1:0", "metrics": "127.0.0.1:0"},
                "log_level": "warning",
            }
        )
    )
    command = Path(sys.executable).parent / "skywire-setup-node"
    process = await asyncio.create_subprocess_exec(command, "--config", config, "--ready-file", ready_file)
    try:
        async with asyncio.timeout(30):
            while not ready_file.exists():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        ready = json.loads(ready_file.read_text())
        assert ready["pid"] == process.pid
        assert ready["public_key"] == str(network.setup_secret.public)
        channel = RpcChannel(ready["interfaces"]["grpc"], network.setup_secret.public, network.initiator)
        await network.call(network.creating(), channel)
        await channel.close()

        def scrape() -> str:
            with urllib.request.urlopen(f"http://{ready['interfaces']['metrics']}/metrics", timeout=10) as answer:
                return str(answer.read().decode())

        assert 'skywire_setup_node_setups_total{end="made"} 1.0' in await asyncio.to_thread(scrape)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 15) == 0
        assert not ready_file.exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await network.end()
