"""The overrides of deploy/failures against the profiles, compose.yaml and the command; and the page that shows them."""

from __future__ import annotations

import itertools
import shlex
from typing import Any

import click
import pytest
from deploy.images import DEPLOY, stages, target_of
from deploy.reading import read
from deploy.test_compose import SERVICES, environment_of
from deploy.world import BESIDE, World, variables
from skywire_cli.main import cli
from skywire_cli.testnet.failing.profiles import PROFILES, Profile, written

FOLDER = DEPLOY / "failures"
TOOLS: dict[str, Any] = read((FOLDER / "tools.yaml").read_text())["services"]
DOCS = DEPLOY.parent / "docs" / "failures.md"
each = pytest.mark.parametrize("profile", PROFILES, ids=[one.name.value for one in PROFILES])


def override(profile: Profile) -> dict[str, Any]:
    """Return what a profile's file says of each service."""
    services: dict[str, Any] = read((FOLDER / f"{profile.name}.yaml").read_text())["services"]
    return services


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("failures"))


def parses(words: list[str]) -> None:
    """Parse a line of the command without running it; raises click.UsageError."""
    command: click.Command = cli
    context = click.Context(cli, info_name="skywire")
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    command.make_context("skywire", words)


def test_each_profile_has_a_file_and_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {one.name.value for one in PROFILES} | {"tools"}


@each
def test_an_override_changes_services_that_exist_into_ones_that_start(profile: Profile, world: World) -> None:
    for name, change in override(profile).items():
        parent = change.get("extends", {})
        if parent.get("file") == "failures/tools.yaml":
            change = TOOLS[parent["service"]] | change
        elif "image" not in change:
            assert name in SERVICES, name
            whole = SERVICES[name] | change
            whole["environment"] = SERVICES[name]["environment"] | change.get("environment", {})
            target = target_of(whole["image"])
            environment = environment_of(whole)
            assert not {one for one in environment if one.startswith("SKYWIRE_")} - BESIDE - variables(target)
            world.load(target, environment)
            assert target in stages()
        line = [*change.get("entrypoint", ()), *change.get("command", ())]
        if line[:1] == ["skywire"]:
            # A directory of the container's does not exist here.
            parses(["/" if word.startswith("/") else word for word in line[1:]])


@each
def test_its_commands_name_services_and_files_that_exist(profile: Profile) -> None:
    known = set(SERVICES) | set(override(profile))
    assert any(f"deploy/failures/{profile.name}.yaml" in command for command in profile.compose)
    for command in profile.compose:
        words = shlex.split(command)
        assert words[:2] == ["docker", "compose"]
        files = [after for word, after in itertools.pairwise(words) if word == "-f"]
        assert all((DEPLOY.parent / file).is_file() for file in files)
        at = words.index("--profile") + 2
        assert {word for word in words[at + 1 :] if not word.startswith("--")} <= known, command


def test_the_page_says_what_the_profiles_say() -> None:
    page = DOCS.read_text()
    for profile in PROFILES:
        assert written(profile) in page, f"docs/failures.md lacks or changes {profile.name}: print(written(profile))"
