"""compose.yaml against the code: every container's environment is a configuration, every address leads somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from deploy.images import DEPLOY, stages, target_of
from deploy.reading import read
from deploy.world import BESIDE, World, variables
from skywire_cli.identities import identities
from skywire_common.runtime.config import Open

STAGES = stages()
DOCUMENT: dict[str, Any] = read((DEPLOY / "compose.yaml").read_text())
NODES: dict[str, Any] = read((DEPLOY / "compose" / "nodes.yaml").read_text())["services"]


def extended(service: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    """Return a service with what it extends, as compose merges it."""
    parent = service.get("extends")
    if parent is None:
        return service
    base = extended((NODES if "file" in parent else beside)[parent["service"]], NODES)
    merged = base | service
    for key in ("environment",):
        merged[key] = base.get(key, {}) | service.get(key, {})
    return merged


SERVICES = {name: extended(service, DOCUMENT["services"]) for name, service in DOCUMENT["services"].items()}
OURS = {name: service for name, service in SERVICES.items() if target_of(service["image"]) and name != "identities"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("compose"))


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    given = {
        name: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value)) for name, value in service["environment"].items()
    }
    return STAGES[target_of(service["image"])].environment | given


@pytest.mark.parametrize("name", OURS)
def test_a_containers_environment_is_its_services_configuration(world: World, name: str) -> None:
    service = OURS[name]
    target = target_of(service["image"])
    assert target in STAGES
    environment = environment_of(service)
    unknown = {one for one in environment if one.startswith("SKYWIRE_")} - BESIDE - variables(target)
    assert not unknown
    loaded = world.load(target, environment)
    # A testnet says that it has no TLS; its health check and its owner's socket are where the command looks for them.
    assert loaded.plain_text
    assert all(isinstance(one, Open) for one in loaded.exposed())
    assert str(loaded.interfaces.admin).endswith(environment["SKYWIRE_ADMIN"])


def aliases(services: dict[str, Any]) -> dict[str, str]:
    """Return every name on the network with the target that answers to it."""
    found = {}
    for name, service in services.items():
        networks = service.get("networks")
        control = (networks or {}).get("control") if isinstance(networks, dict) else None
        for alias in (name, service.get("hostname", name), *((control or {}).get("aliases", ()))):
            found[alias] = target_of(service["image"]) or name
    return found


@pytest.mark.parametrize("name", OURS)
def test_every_address_leads_to_a_service_that_listens_there(world: World, name: str) -> None:
    known = aliases(SERVICES)
    loaded = world.load(target_of(OURS[name]["image"]), environment_of(OURS[name]))
    peers = [getattr(loaded, "transport_discovery", None), *getattr(loaded, "setup_nodes", ())]
    addresses = [peer.address for peer in peers if peer is not None]
    if hasattr(loaded.interfaces, "announced_link"):
        addresses += [loaded.interfaces.announced_link, loaded.interfaces.announced_control]
    for address in addresses:
        host, _, port = address.rpartition(":")
        assert int(port) in STAGES[known[host]].ports, address


@pytest.mark.parametrize("profile", ["line", "mesh"])
def test_six_nodes_of_a_profile_are_linked(world: World, profile: str) -> None:
    nodes = {name: service for name, service in OURS.items() if service.get("profiles") == [profile]}
    assert len(nodes) == 6
    keys = {f"node-{n}": (world.root / "identities" / "public" / f"node-{n}").read_text().strip() for n in range(1, 7)}
    links = set()
    for name, service in nodes.items():
        own = keys[service["hostname"]]
        assert service["hostname"] == name.replace(profile, "node")
        for transport in world.load("apps", environment_of(service)).transports:
            links.add(frozenset((own, str(transport.public_key))))
    links = {link for link in links if len(link) == 2}
    assert len(links) == {"line": 5, "mesh": 15}[profile]


@pytest.mark.parametrize("name", SERVICES)
def test_everything_waits_for_health_and_is_watched(name: str) -> None:
    service = SERVICES[name]
    for needed, how in (service.get("depends_on") or {}).items():
        once = needed in ("identities", "migrate")
        assert how["condition"] == ("service_completed_successfully" if once else "service_healthy")
        if not once:
            assert "disable" not in SERVICES[needed]["healthcheck"]
    words = json.dumps(service.get("command", "")) + json.dumps(service.get("entrypoint", ""))
    assert "sleep" not in words
    if name not in ("identities", "migrate"):
        assert service["healthcheck"]["test"][0] == "CMD", "no shell"
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", OURS)
def test_a_container_needs_no_root_and_writes_nowhere_else(world: World, name: str) -> None:
    service = OURS[name]
    assert service["user"] == STAGES[target_of(service["image"])].user
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    grace = world.load(target_of(service["image"]), environment_of(service)).grace_s
    assert float(service["stop_grace_period"].removesuffix("s")) > grace + 1


def test_each_service_has_its_own_key_and_no_other(tmp_path: Path) -> None:
    made = SERVICES["identities"]
    words = [*made["entrypoint"], *made["command"]]
    assert words[:4] == ["skywire", "identities", "make", "/identities"]
    names = words[4:]
    done = CliRunner().invoke(identities, ["make", str(tmp_path), *names])
    assert done.exit_code == 0
    for name, service in OURS.items():
        mounts = {
            mount["target"]: mount["volume"]["subpath"]
            for mount in service["volumes"]
            if isinstance(mount, dict) and mount["source"] == "identities"
        }
        own = mounts.pop("/run/identity")
        expected = "discovery" if name == "migrate" or name.startswith("discovery") else service["hostname"]
        assert own == expected
        assert own in names
        assert set(mounts.values()) <= {"public"}
        # All of the volume is mounted where keys are made, and nowhere else.
        assert not [mount for mount in service["volumes"] if isinstance(mount, str) and mount.startswith("identities")]


def test_prometheus_reads_every_service() -> None:
    scraped = read((DEPLOY / "observe" / "prometheus.yaml").read_text())
    known = aliases(SERVICES)
    targets = [one for job in scraped["scrape_configs"] for group in job["static_configs"] for one in group["targets"]]
    hosts = set()
    for target in targets:
        host, _, port = target.rpartition(":")
        hosts.add(host)
        interfaces = {"discovery": "HTTP"}.get(known[host], "METRICS")
        environment = STAGES[known[host]].environment
        assert environment[f"SKYWIRE_INTERFACES__{interfaces}"].endswith(f":{port}")
    assert hosts == {service["hostname"] for name, service in OURS.items() if "hostname" in service}
