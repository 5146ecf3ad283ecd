"""`make compose-test`: the testnet of compose.yaml with an engine: up, the contracts, a reroute, down.

    python -m deploy.compose_test [--older-engine]

Needs docker (26 or newer) with compose, and images (`make images`, or they are built). Ports of the host are free ones.
`--older-engine` does without what Docker before 26 and podman 4 lack (`older_engine`): podman by its service, with
DOCKER_HOST.
Exit code 0 if all holds, 1 if not, 3 if there is no engine here.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from deploy.older_engine import HealthChecks, without_subpaths

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "skywire-test"
NO_ENGINE = 3
UP_S, WAIT_S = 600, 120
PING, FAR = "mesh-1", "mesh-6"


def engine() -> list[str] | None:
    """Return the command of an engine with compose that runs here."""
    for command in (["docker", "compose"], ["docker-compose"], ["podman", "compose"]):
        if shutil.which(command[0]) is None:
            continue
        probes = ([*command, "version"], [command[0].removesuffix("-compose"), "info"])
        if all(_answers(probe) for probe in probes):
            return command
    return None


def _answers(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


class Composed:
    """The testnet as a project of its own."""

    def __init__(self, command: list[str], older: Path | None) -> None:
        """`older`: a folder for what compose.yaml becomes for an older engine; None for one of today."""
        self.ports = {name: str(_free_port()) for name in ("DISCOVERY", "HTTP", "SETUP_1", "SETUP_2")}
        self._environment = os.environ | {f"SKYWIRE_{name}_PORT": port for name, port in self.ports.items()}
        file = ROOT / "deploy" / "compose.yaml"
        self._command = [*command, "-p", PROJECT, "-f", str(file), "--profile", "mesh"]
        if older is not None:
            document = without_subpaths(json.loads(self.run("config", "--format", "json")))
            written = older / "compose.json"
            written.write_text(json.dumps(document))
            self._command[self._command.index(str(file))] = str(written)

    def run(self, *words: str, timeout: float = WAIT_S) -> str:
        """Run a command of compose and return what it prints; raises CalledProcessError."""
        done = subprocess.run(
            [*self._command, *words],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=True,
        )
        return done.stdout

    def skywire(self, service: str, *words: str) -> Any:
        """Run the command line in a container and return its JSON."""
        return json.loads(self.run("exec", "-T", service, "skywire", *words, "--json"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def until(what: str, holds: Any, seconds: float = WAIT_S) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.5)


def contracts(composed: Composed) -> None:
    """Run the cases of every service against the ports on the host."""
    from contract.discovery.runner import main as discovery_cases
    from contract.everything.__main__ import main as all_cases

    places = {
        "discovery": f"127.0.0.1:{composed.ports['DISCOVERY']}",
        "setup_node": f"127.0.0.1:{composed.ports['SETUP_1']}",
    }
    arguments = _Arguments(**places, control=None, admin=None, setup_node_key=None)
    assert asyncio.run(all_cases(arguments)) == 0  # type: ignore[arg-type]
    http = f"127.0.0.1:{composed.ports['HTTP']}"
    assert asyncio.run(discovery_cases(_Arguments(target=places["discovery"], http=http))) == 0  # type: ignore[arg-type]


class _Arguments:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def reroute(composed: Composed) -> None:
    """Have a loop go over a third node, kill that node's container, and see the loop go on another way."""
    keys = {f"mesh-{n}": composed.skywire(f"mesh-{n}", "node", "summary")["build"]["public_key"] for n in range(1, 7)}
    for one, other in ((PING, FAR), (FAR, PING)):
        for transport in composed.skywire(one, "node", "transports", "list", "--to", keys[other]):
            composed.skywire(one, "node", "transports", "remove", transport["transport_id"])
    composed.skywire(PING, "node", "apps", "start", "helloworld", "--wait")

    def loop() -> Any:
        loops = [one for one in composed.skywire(PING, "node", "loops") if one["state"] == "OPEN"]
        return loops[0] if loops else None

    before = until("a loop", loop)
    middle = before["routes"]["forward"]["hops"][0]["to_key"]
    victim = next(name for name, key in keys.items() if key == middle)
    assert victim not in (PING, FAR)
    composed.run("kill", victim)
    after = until("the loop on another way", lambda: (now := loop()) and now["reroutes"] > before["reroutes"] and now)
    assert after["loop_id"] == before["loop_id"]
    sent = after["bytes_acknowledged"]
    until("the pings go on", lambda: (now := loop()) and now["bytes_acknowledged"] > sent)
    composed.run("start", victim)


def main() -> int:
    """Bring it up, try it, take it down."""
    command = engine()
    if command is None:
        print("compose-test: no container engine runs here")
        return NO_ENGINE
    older = "--older-engine" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, HealthChecks(_name() if older else ""):
        composed = Composed(command, Path(folder) if older else None)
        try:
            composed.run("up", "--wait", "--wait-timeout", str(UP_S), timeout=UP_S + 60)
            contracts(composed)
            reroute(composed)
        except BaseException:
            print(composed.run("logs", "--tail", "50"))
            raise
        finally:
            composed.run("down", "--volumes", "--timeout", "20", timeout=UP_S)
    print("compose-test: it came up healthy, its contracts hold, a killed container cost its loop nothing")
    return 0


def _name() -> str:
    """Return which engine answers: docker or podman."""
    said = subprocess.run(["docker", "version", "--format", "json"], capture_output=True, text=True, check=False)
    return "podman" if "podman" in said.stdout.lower() else "docker"


if __name__ == "__main__":
    sys.exit(main())
