"""The Dockerfile against the code: what images listen on, run and check exists; nothing needs a shell or root."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from deploy.images import DEPLOY, stages
from deploy.world import BESIDE, variables
from skywire_cli.health import ADDRESS_VARIABLE

TARGETS = ("discovery", "setup-node", "node", "apps")
STAGES = stages()
ROOT = DEPLOY.parent


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_says_only_what_its_service_reads(target: str) -> None:
    stage = STAGES[target]
    named = {name for name in stage.environment if name.startswith("SKYWIRE_")}
    assert named - BESIDE <= variables(target)
    # The health check finds its address where the service does.
    assert ADDRESS_VARIABLE in named
    assert stage.health == ("skywire", "health")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_exposes_what_its_service_listens_on(target: str) -> None:
    stage = STAGES[target]
    listeners = {
        int(value.rpartition(":")[2])
        for name, value in stage.environment.items()
        if name.startswith("SKYWIRE_INTERFACES__") and re.fullmatch(r"[0-9.]+:[0-9]+", value)
    }
    assert listeners == set(stage.ports)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_a_command_that_exists_as_nobody_special(target: str) -> None:
    stage = STAGES[target]
    commands = {point.name for point in entry_points(group="console_scripts")}
    assert stage.entrypoint[0] in commands
    assert stage.health[0] in commands
    assert stage.user == "10001:10001"
    assert {"org.opencontainers.image.title", "org.opencontainers.image.revision"} <= set(stage.labels)


def test_the_dockerfile_names_no_address() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "://" not in text
    assert "ARG BASE_IMAGE=" in text
    assert "ARG PIP_INDEX_URL\n" in text
    assert all(word in text for word in ("--require-hashes", "pip", "wheel", "--no-build-isolation"))


def test_what_goes_into_an_image_is_there() -> None:
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line


@pytest.mark.parametrize("name", ["build", "discovery", "setup-node", "node", "apps"])
def test_an_images_lock_is_part_of_the_lock(name: str) -> None:
    whole = _pins(ROOT / "requirements.lock")
    part = _pins(DEPLOY / "locks" / f"{name}.lock")
    assert part
    assert part.items() <= whole.items(), f"run make lock: {part.items() - whole.items()}"
    assert "://" not in (DEPLOY / "locks" / f"{name}.lock").read_text()


def _pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"(?m)^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", path.read_text()))


def test_apps_are_linked_to_the_names_that_a_node_starts_them_by(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DEPLOY / "link_apps.py"), str(tmp_path / "apps")], check=True)
    made = {path.name: path.readlink() for path in (tmp_path / "apps").iterdir()}
    assert made["helloworld.v1.0"] == Path(sys.executable).with_name("skywire-helloworld")
    assert all(re.fullmatch(r"[a-z-]+\.v[0-9.]+", name) for name in made)
