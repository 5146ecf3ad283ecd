"""Dashboard and alerts against what services really export, and that against Prometheus's conventions."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import structlog
from contract.setup_node.network import Network
from deploy.images import DEPLOY
from deploy.reading import read
from prometheus_client.parser import text_string_to_metric_families
from skywire_cli.keygen import write_key_file
from skywire_common.rpc.client import RpcChannel
from skywire_common.rpc.identity import Reason
from skywire_common.runtime.scope import Scope
from skywire_node.config import Identity, Interfaces, NodeSettings
from skywire_node.node import start as start_node
from skywire_transport_discovery.config import Settings
from skywire_transport_discovery.service import start as start_discovery

ALERTS: dict[str, Any] = read((DEPLOY / "observe" / "alerts.yaml").read_text())
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "observe" / "grafana" / "dashboards" / "skywire.json").read_text())
# What Prometheus makes itself, and its labels.
BY_PROMETHEUS = {"up"}
TARGET_LABELS = {"job", "instance"}
FUNCTIONS = {"rate", "increase", "histogram_quantile"}
WORDS = {"sum", "max", "min", "count", "by", "on", "ignoring", "group_left", "and", "or", "unless", "le", "bool"}
MOST_CHILDREN = 400
UNITS = {"bytes", "seconds", "packets", "total", "info"}


class Exported(NamedTuple):
    """What one service shows: labels of each sample's name, and the values of each label."""

    labels: dict[str, set[str]]
    values: dict[tuple[str, str], set[str]]
    kinds: dict[str, str]
    children: dict[str, int]


def parsed(text: str) -> Exported:
    exported = Exported({}, {}, {}, {})
    for family in text_string_to_metric_families(text):
        exported.kinds[family.name] = family.type
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        for suffix in suffixes:
            exported.labels.setdefault(f"{family.name}{suffix}", set())
        exported.children[family.name] = len(family.samples)
        for sample in family.samples:
            exported.labels.setdefault(sample.name, set()).update(sample.labels)
            for label, value in sample.labels.items():
                exported.values.setdefault((sample.name, label), set()).add(value)
    return exported


@pytest.fixture(scope="module")
async def exported(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Exported]:
    """All three services, started for once, each asked by one call so that what calls count is there."""
    directory = tmp_path_factory.mktemp("services")
    scope = Scope(structlog.get_logger("test"), 2.0)
    for name in ("discovery", "node"):
        write_key_file(directory / f"{name}.key")
    discovery = await start_discovery(
        Settings(
            secret_key_file=directory / "discovery.key",
            database_url=f"sqlite+aiosqlite:///{directory / 'discovery.db'}",
        ),
        scope,
    )
    node = await start_node(
        NodeSettings(
            node=Identity(static_secret_key_file=directory / "node.key"),
            interfaces=Interfaces(admin=Path("/tmp") / f"{directory.name}-{directory.stat().st_ino}.sock"),
            apps_path=directory / "apps",
            local_path=directory / "local",
        ),
        scope,
    )
    network = Network(directory, size=1)
    await network.begin()
    await network.call(network.creating())
    channel = RpcChannel(discovery.interfaces["grpc"], None, None)
    from skywire.transport_discovery.v1 import transport_discovery_pb2 as pb

    service = "/skywire.transport_discovery.v1.TransportDiscovery/"
    await channel.call(f"{service}GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse, timeout=10, signed=False)
    await channel.close()
    whole = Exported({}, {}, {}, {})
    async with httpx.AsyncClient() as client:
        await client.get(f"http://{discovery.interfaces['http']}/health")
        for address in (
            discovery.interfaces["http"],
            node.interfaces["metrics"],
            network.ready.interfaces["metrics"],
        ):
            found = parsed((await client.get(f"http://{address}/metrics")).text)
            for name, labels in found.labels.items():
                whole.labels.setdefault(name, set()).update(labels)
            for key, values in found.values.items():
                whole.values.setdefault(key, set()).update(values)
            whole.kinds.update(found.kinds)
            for name, count in found.children.items():
                whole.children[name] = max(whole.children.get(name, 0), count)
    yield whole
    await network.end()
    await scope.close()


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(
    ("where", "expression"), EXPRESSIONS, ids=[f"{n}-{one[0]}" for n, one in enumerate(EXPRESSIONS)]
)
def test_an_expression_asks_for_what_is_exported(exported: Exported, where: str, expression: str) -> None:
    bare = re.sub(r'"[^"]*"', '""', expression)
    bare = re.sub(r"\[[^]]*\]", "[]", bare)
    matchers = re.findall(r"([a-z_]+)\{([^}]*)\}", re.sub(r"\[[^]]*\]", "", expression))
    without = re.sub(r"\{[^}]*\}", "", bare)
    grouped = {label.strip() for many in re.findall(r"\bby \(([^)]*)\)", without) for label in many.split(",")}
    names = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r"\bby \([^)]*\)", "", without))) - FUNCTIONS - WORDS
    unknown = names - exported.labels.keys() - BY_PROMETHEUS
    assert names
    assert not unknown, f"{where}: nobody exports {unknown}"
    for name, inside in matchers:
        for label, operator, value in re.findall(r'([a-z_]+)(=~|!=|!~|=)"([^"]*)"', inside):
            if label in TARGET_LABELS:
                continue
            assert label in exported.labels[name], f"{where}: {name} has no label {label}"
            if label == "grpc_code" or operator in ("!=", "!~"):
                continue
            known = exported.values.get((name, label), set()) | (
                {one.value for one in Reason} if label == "reason" else set()
            )
            for one in value.split("|") if operator == "=~" else [value]:
                assert one in known or label == "grpc_type", f"{where}: {label} is never {one}"
    some = set().union(*(exported.labels.get(name, set()) for name in names)) | TARGET_LABELS
    assert grouped <= some, f"{where}: no label {grouped - some}"


def test_names_follow_the_conventions(exported: Exported) -> None:
    own = {name: kind for name, kind in exported.kinds.items() if name.startswith("skywire_")}
    assert len(own) > 30
    for name, kind in own.items():
        assert re.fullmatch(r"skywire_(node|setup_node|discovery|rpc|event_loop|build)(_[a-z]+)+", name), name
        assert kind in ("counter", "gauge", "histogram")
        assert not re.search(r"_(ms|us|millis|minutes|kb|mb|count|what|held)(_|$)", name), f"{name}: base units only"
        if "age" in name.split("_"):
            assert name.endswith("_seconds")
        labels = exported.labels.get(name, set()) | exported.labels.get(f"{name}_total", set())
        assert not labels & {"what", "unit", "key", "peer", "public_key", "setup_id", "loop_id", "path"}, name


def test_label_values_are_bounded(exported: Exported) -> None:
    for name, count in exported.children.items():
        assert count <= MOST_CHILDREN, name
    for (name, label), values in exported.values.items():
        if name.startswith(("skywire_", "http_")):
            for value in values:
                assert not re.search(r"[0-9a-f]{16}", value) or label == "revision", f"{name} {label}={value}"


def test_every_service_says_what_it_is(exported: Exported) -> None:
    assert exported.values["skywire_build_info", "service"] == {
        "skywire-node",
        "skywire-setup-node",
        "skywire-discovery",
    }


def test_an_alert_says_what_to_do() -> None:
    runbook = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    sections = {line.removeprefix("### ").strip().lower() for line in runbook.splitlines() if line.startswith("### ")}
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert {"summary", "description", "runbook"} <= rule["annotations"].keys()
        anchor = rule["annotations"]["runbook"].partition("#")[2]
        assert anchor == rule["alert"].lower()
        assert anchor in sections, f"docs/deploy.md has no section {rule['alert']}"


def test_kubernetes_has_the_same_alerts() -> None:
    path = DEPLOY / "kubernetes" / "components" / "monitoring" / "alerts.yaml"
    assert read(path.read_text())["spec"]["groups"] == ALERTS["groups"]


def test_the_dashboard_is_provisioned_and_its_panels_do_not_overlap() -> None:
    source = read((DEPLOY / "observe" / "grafana" / "datasources" / "prometheus.yaml").read_text())
    [datasource] = source["datasources"]
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == datasource["uid"]
