"""The manifests against the code, as each overlay renders them: configuration, ports, probes, arrows, rights."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner
from deploy.images import DEPLOY, stages, target_of
from deploy.reading import read, read_all
from deploy.world import BESIDE, World, variables
from skywire_cli.identities import identities
from skywire_common.rpc.health import ALIVE, WHOLE
from skywire_common.runtime.config import is_loopback

OVERLAYS = ("local", "testnet", "production")
STAGES = stages()
NAMESPACE = "skywire"
COMPONENT = "app.kubernetes.io/component"
# Who calls whom (docs/architecture.md): by configuration, and what the discovery tells.
ARROWS = {
    ("node", "discovery", 7200),
    ("setup-node", "discovery", 7200),
    ("node", "setup-node", 7100),
    ("setup-node", "node", 7001),
    ("node", "node", 7000),
}
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("kubernetes"))


class Rendered(NamedTuple):
    """An overlay's objects."""

    name: str
    objects: list[Manifest]

    def of(self, *kinds: str) -> list[Manifest]:
        return [one for one in self.objects if one["kind"] in kinds]

    def workloads(self) -> list[Manifest]:
        return self.of("Deployment", "StatefulSet", "Job")

    def ours(self) -> Iterator[tuple[Manifest, Manifest, str]]:
        """Yield workload, container and target of everything that runs our images."""
        for workload in self.workloads():
            for container in workload["spec"]["template"]["spec"]["containers"]:
                target = target_of(container["image"])
                if target:
                    yield workload, container, target

    def environment(self, container: Manifest, target: str, pod: str) -> dict[str, str]:
        found = dict(STAGES[target].environment)
        for source in container.get("envFrom", ()):
            name = source["configMapRef"]["name"]
            [data] = [one["data"] for one in self.of("ConfigMap") if one["metadata"]["name"] == name]
            found |= data
        for one in container.get("env", ()):
            if "value" in one:
                found[one["name"]] = one["value"]
            elif "secretKeyRef" in one["valueFrom"]:
                found[one["name"]] = "postgresql+psycopg://user:word@host/name"
        found["POD_NAME"], found["POD_NAMESPACE"] = pod, NAMESPACE
        return {name: re.sub(r"\$\(([A-Z_]+)\)", lambda match: found[match[1]], value) for name, value in found.items()}


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> Rendered:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here, which renders overlays")
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / "overlays" / request.param)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Rendered(request.param, read_all(done.stdout))


def pod_of(workload: Manifest) -> str:
    return f"{workload['metadata']['name']}-0"


def component(workload: Manifest) -> str:
    return str(workload["spec"]["template"]["metadata"]["labels"][COMPONENT])


def test_the_base_reads_by_itself() -> None:
    # Where there is no kubectl: at least every file of the base is well formed and listed.
    base = DEPLOY / "kubernetes" / "base"
    listed = read((base / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in base.glob("*.yaml") if path.name != "kustomization.yaml")
    for name in listed:
        assert all(one["kind"] for one in read_all((base / name).read_text()))


def test_a_containers_environment_is_its_services_configuration(rendered: Rendered, world: World) -> None:
    seen = set()
    for workload, container, target in rendered.ours():
        seen.add(target)
        environment = rendered.environment(container, target, pod_of(workload))
        unknown = {name for name in environment if name.startswith("SKYWIRE_")} - BESIDE - variables(target)
        assert not unknown, workload["metadata"]["name"]
        loaded = world.load(target, environment)
        if rendered.name == "production" and workload["kind"] != "Job":
            assert not loaded.plain_text
            assert not loaded.exposed()
    assert seen == {"discovery", "setup-node", "apps"}


def test_ports_are_those_that_the_service_listens_on(rendered: Rendered) -> None:
    for workload, container, target in rendered.ours():
        if workload["kind"] == "Job":
            continue
        environment = rendered.environment(container, target, pod_of(workload))
        for port in container["ports"]:
            variable = f"SKYWIRE_INTERFACES__{port['name'].upper()}"
            assert environment[variable].endswith(f":{port['containerPort']}"), variable
            assert not is_loopback(environment[variable])
        assert {port["containerPort"] for port in container["ports"]} == set(STAGES[target].ports)


def test_probes_ask_for_services_that_exist_and_are_apart(rendered: Rendered) -> None:
    for workload, container, target in rendered.ours():
        if workload["kind"] == "Job":
            continue
        health = {port["name"]: port["containerPort"] for port in container["ports"]}["health"]
        probes = {name: container[name]["grpc"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
        assert {probe["port"] for probe in probes.values()} == {health}
        # What ends a process asks only whether it lives: a database that is away ends nobody.
        assert probes["startupProbe"]["service"] == probes["livenessProbe"]["service"] == ALIVE
        assert probes["readinessProbe"].get("service", WHOLE) == WHOLE, target


def test_a_pod_ends_within_its_time(rendered: Rendered, world: World) -> None:
    for workload, container, target in rendered.ours():
        if workload["kind"] == "Job":
            continue
        grace = world.load(target, rendered.environment(container, target, pod_of(workload))).grace_s
        before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert before + grace + 1 < workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_services_lead_to_pods_and_addresses_to_services(rendered: Rendered, world: World) -> None:
    services: dict[str, set[int]] = {}
    for service in rendered.of("Service"):
        selector = service["spec"]["selector"].items()
        pods = [
            one
            for one in rendered.workloads()
            if selector <= one["spec"]["template"]["metadata"]["labels"].items() and one["kind"] != "Job"
        ]
        assert pods, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            for workload in pods:
                [container] = workload["spec"]["template"]["spec"]["containers"]
                named = {one["name"]: one["containerPort"] for one in container["ports"]}
                assert named[port["targetPort"]] == port["port"]
        services[service["metadata"]["name"]] = {port["port"] for port in service["spec"]["ports"]}
        if any(port["name"] in ("grpc", "control") for port in service["spec"]["ports"]):
            assert service["spec"]["clusterIP"] == "None", "gRPC is balanced by its clients"
    for workload, container, target in rendered.ours():
        loaded = world.load(target, rendered.environment(container, target, pod_of(workload)))
        peers = [getattr(loaded, "transport_discovery", None), *getattr(loaded, "setup_nodes", ())]
        addresses = [peer.address for peer in peers if peer is not None]
        if target == "apps":
            addresses += [loaded.interfaces.announced_link, loaded.interfaces.announced_control]
        for address in addresses:
            host, _, port = address.rpartition(":")
            name = host.removesuffix(f".{NAMESPACE}.svc").rpartition(".")[2]
            assert int(port) in services[name], address


def test_certificates_name_what_is_called(rendered: Rendered, world: World) -> None:
    certificates = {one["spec"]["secretName"]: one["spec"].get("dnsNames", ()) for one in rendered.of("Certificate")}
    if rendered.name != "production":
        assert not certificates
        return
    for workload, container, target in rendered.ours():
        if workload["kind"] == "Job":
            continue
        volumes = {one["name"]: one for one in workload["spec"]["template"]["spec"]["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] in certificates
        loaded = world.load(target, rendered.environment(container, target, pod_of(workload)))
        called = [getattr(loaded, "transport_discovery", None), *getattr(loaded, "setup_nodes", ())]
        names = [peer.address.rpartition(":")[0] for peer in called if peer is not None]
        assert all(peer.tls is not None and peer.tls.ca for peer in called if peer is not None)
        if target == "apps":
            names.append(loaded.interfaces.announced_control.rpartition(":")[0])
        all_names = {name for many in certificates.values() for name in many}
        for name in names:
            assert name in all_names or f"*.{name.partition('.')[2]}" in all_names, name


def test_the_network_lets_through_the_arrows_and_nothing_else(rendered: Rendered) -> None:
    components = {component(workload) for workload in rendered.workloads()}
    let_in: set[tuple[str, str, int]] = set()
    let_out: set[tuple[str, str, int]] = set()
    closed = {"Ingress": False, "Egress": False}
    for policy in rendered.of("NetworkPolicy"):
        spec = policy["spec"]
        whom = [name for name in components if _selects(spec["podSelector"], name)]
        if not spec.get("ingress") and not spec.get("egress"):
            closed |= dict.fromkeys(spec["policyTypes"], True)
            assert sorted(whom) == sorted(components)
        for rule in spec.get("ingress", ()):
            let_in |= {(who, name, port) for name in whom for who, port in _peers(rule, "from", components)}
        for rule in spec.get("egress", ()):
            let_out |= {(name, who, port) for name in whom for who, port in _peers(rule, "to", components)}
    assert all(closed.values()), "what no policy allows is forbidden"
    inside = {arrow for arrow in let_in if {arrow[0], arrow[1]} <= components}
    assert inside == {arrow for arrow in let_out if {arrow[0], arrow[1]} <= components}, "both ends must agree"
    database = {("discovery", "postgres", 5432), ("discovery-migrate", "postgres", 5432)}
    assert inside == ARROWS | (database if rendered.name == "testnet" else set())


def _selects(selector: Manifest, name: str) -> bool:
    labels = {COMPONENT: name, "app.kubernetes.io/part-of": "skywire"}
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", ())
        if one["operator"] == "In"
    )


def _peers(rule: Manifest, side: str, components: set[str]) -> Iterator[tuple[str, int]]:
    for peer in rule[side]:
        outside = "namespaceSelector" in peer or "ipBlock" in peer
        names = ["outside"] if outside else [name for name in components if _selects(peer["podSelector"], name)]
        assert names, peer
        for name in names:
            for port in rule["ports"]:
                yield name, port["port"]


def test_pods_have_no_rights(rendered: Rendered) -> None:
    assert not rendered.of("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    accounts = {one["metadata"]["name"]: one for one in rendered.of("ServiceAccount")}
    assert not any(one["automountServiceAccountToken"] for one in accounts.values())
    for workload in rendered.workloads():
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        # Service variables such as SKYWIRE_PORT would be taken for the configuration.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
    for _, container, target in rendered.ours():
        assert container["image"].partition(":")[0] == f"skywire-{target}"


def test_evictions_leave_somebody(rendered: Rendered) -> None:
    budgets = {one["spec"]["selector"]["matchLabels"][COMPONENT] for one in rendered.of("PodDisruptionBudget")}
    replicas: dict[str, int] = {}
    for workload in rendered.of("Deployment", "StatefulSet"):
        name = component(workload)
        replicas[name] = replicas.get(name, 0) + workload["spec"]["replicas"]
        if name != "postgres":
            spread = workload["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert all(one["labelSelector"]["matchLabels"] == {COMPONENT: name} for one in spread)
    assert budgets == {name for name, count in replicas.items() if count > 1}


def test_what_is_mounted_is_made_or_documented(rendered: Rendered, tmp_path: Path) -> None:
    names = ["discovery", "setup-node-a", "setup-node-b", *(f"node-{number}" for number in range(6))]
    made = CliRunner().invoke(identities, ["make", str(tmp_path / "keys"), *names])
    assert made.exit_code == 0
    shown = CliRunner().invoke(identities, ["kubernetes", str(tmp_path / "keys")])
    by_command = {(one["kind"], one["metadata"]["name"]): one for one in json.loads(shown.stdout)["items"]}
    rest = {("Secret", one["spec"]["secretName"]) for one in rendered.of("Certificate")}
    rest |= {("ConfigMap", one["metadata"]["name"]) for one in rendered.of("ConfigMap")}
    documented = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    for workload in rendered.workloads():
        for volume in workload["spec"]["template"]["spec"].get("volumes", ()):
            if "secret" in volume:
                wanted = ("Secret", volume["secret"]["secretName"])
                assert volume["secret"]["defaultMode"] == 0o400
            elif "configMap" in volume:
                wanted = ("ConfigMap", volume["configMap"]["name"])
            else:
                continue
            assert wanted in by_command or wanted in rest, wanted
        for container in workload["spec"]["template"]["spec"]["containers"]:
            for one in container.get("env", ()):
                if "secretKeyRef" in one.get("valueFrom", {}):
                    assert one["valueFrom"]["secretKeyRef"]["name"] in documented
    nodes = by_command["Secret", "node-identity"]["stringData"]
    assert set(nodes) == {f"node-{number}" for number in range(6)}
    assert set(by_command["ConfigMap", "public-keys"]["data"]) == set(names)
