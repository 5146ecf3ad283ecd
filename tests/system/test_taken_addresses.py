"""Services whose addresses are taken: one typed line that names the configuration's key, and exit code 1."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import pytest
from skywire_common.curve import SecretKey

pytestmark = pytest.mark.system
DEADLINE = 60
PEER = {"address": "127.0.0.1:1", "public_key": str(SecretKey.generate().public)}
INTERFACES = {
    "skywire_node": ("link", "control"),
    "skywire_setup_node": ("grpc", "metrics"),
    "skywire_transport_discovery": ("grpc", "http"),
}


async def configured(directory: Path, module: str) -> str:
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--new", str(directory)),
        *(f"--set=transport_discovery.{name}={value}" for name, value in PEER.items() if "discovery" not in module),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await made.communicate()
    return str(json.loads(out)["config"])


async def refused(config: str, module: str, interface: str, taken: str) -> None:
    variable = f"SKYWIRE_INTERFACES__{interface.upper()}"
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--config", config),
        env={**os.environ, variable: taken},
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(started.communicate(), DEADLINE)
    # Every line is the logger's: neither a traceback nor gRPC's own.
    records = [json.loads(line) for line in err.decode().splitlines()]
    assert not any("exception" in record for record in records)
    (why,) = [record["reason"] for record in records if record["event"] == "cannot start"]
    assert why.startswith(f"CONFLICT: interfaces.{interface}: cannot listen on {taken}: Address already in use; ")
    assert started.returncode == 1


async def test_every_service_names_the_key_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        configs = await asyncio.gather(*(configured(tmp_path / module, module) for module in INTERFACES))
        for config, (module, interfaces) in zip(configs, INTERFACES.items(), strict=True):
            # One after the other: they share a directory.
            for interface in interfaces:
                await refused(config, module, interface, taken)
