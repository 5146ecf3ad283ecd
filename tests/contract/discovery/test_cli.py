"""`skywire discovery` against a real discovery, as an operator uses it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from contract.discovery.targets import GrpcTarget, Keys
from discovery_process import DiscoveryProcess


def skywire(discovery: DiscoveryProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(discovery.executable()).parent / "skywire"
    return subprocess.run(
        [str(program), "discovery", *arguments, "--discovery", discovery.grpc],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_everything_is_shown_as_table_and_as_json(discovery: DiscoveryProcess) -> None:
    keys, target = Keys(), GrpcTarget(discovery.grpc, discovery.public)
    entry = keys.signed("a-b")
    await target.register(keys["a"], [entry])
    await target.say(keys["a"], [(entry.entry.transport_id, True)])
    await target.beat(keys["a"], 1)
    await target.close()
    a, b = keys["a"].public, keys["b"].public
    status = json.loads(skywire(discovery, "status", "--json").stdout)
    assert status["database_ok"]
    assert status["build"]["public_key"] == str(discovery.public)
    assert "serving" in skywire(discovery, "status").stdout
    [shown] = json.loads(skywire(discovery, "transports", "--node", str(a), "--json").stdout)
    assert shown["entry"]["entry"]["transport_id"] == str(entry.entry.transport_id)
    assert str(entry.entry.transport_id) in skywire(discovery, "transports", "--node", str(a), "--up").stdout
    assert entry.entry.transport_id.hex in skywire(discovery, "transports", "--json").stdout.replace("-", "")
    assert str(a) in {node["public_key"] for node in json.loads(skywire(discovery, "nodes", "--json").stdout)}
    assert "198.51.100.1:7777" in skywire(discovery, "nodes").stdout
    found = json.loads(skywire(discovery, "routes", str(a), str(b), "--json").stdout)
    assert len(found["routes"][0]["forward"]["hops"]) == 1
    assert f"{a.short} → {b.short}" in skywire(discovery, "routes", str(a), str(b)).stdout


def test_nobody_there_is_an_error_that_says_so(discovery: DiscoveryProcess) -> None:
    program = Path(discovery.executable()).parent / "skywire"
    command = [str(program), "discovery", "status", "--discovery", "127.0.0.1:1", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 3
    assert json.loads(found.stderr)["code"] == "UNAVAILABLE"
