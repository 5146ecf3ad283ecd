"""The programs of docs/apps.md do what the page says."""

from __future__ import annotations

import inspect
import json
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import skywire_app
from click import Option
from click.testing import CliRunner
from skywire_app import blocking
from skywire_node.apps.run import AppSpec, AppState
from unit.node.app_world import KEY, opened

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "apps.md"
TUTORIAL = DOCS / "apps" / "tutorial.md"


async def test_the_tutorials_apps_talk_to_each_other(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(#!.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(programs) == 2
    async with opened(tmp_path) as world:
        for name, program in zip(("shout", "ask"), programs, strict=True):
            assert len([line for line in program.splitlines() if line.strip()]) <= 20
            world.app(name, "1.0", program.replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
        host = world.make(AppSpec("shout", "1.0", port=20), AppSpec("ask", "1.0", args=(f"{KEY}:20",)))
        host.start_app("shout")
        await world.until_state("shout", AppState.READY)
        host.start_app("ask")
        await world.until_state("ask", AppState.STOPPED)
        assert host.status("ask").reason == "exit code 0", world.lines()
        assert world.lines() == ["HELLO"]
        assert (await host.stop_app("shout")).reason.startswith("exit code 0")


async def test_the_notebook_of_the_tutorial_is_written_into_and_kept(tmp_path: Path) -> None:
    notebook, note = re.findall(r"```python\n(#!.*?)```", TUTORIAL.read_text(), re.DOTALL)
    async with opened(tmp_path) as world:
        for name, program in (("notebook", notebook), ("note", note)):
            world.app(name, "1.0", program.replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
        host = world.make(AppSpec("notebook", "1.0", port=22), AppSpec("note", "1.0", args=(f"{KEY}:22", "hello")))
        for times in (1, 2):
            host.start_app("notebook")
            await world.until_state("notebook", AppState.READY)
            host.start_app("note")
            await world.until_state("note", AppState.STOPPED)
            assert host.status("note").reason == "exit code 0", world.lines()
            assert json.loads(str(world.lines()[-1])) == {"notes": times * [{"by": str(KEY), "text": "hello"}]}
            assert (await host.stop_app("notebook")).reason.startswith("exit code 0")


@pytest.mark.parametrize("module", [skywire_app, blocking])
def test_the_sdk_is_typed_and_every_name_says_what_it_is(module: ModuleType) -> None:
    assert Path(str(skywire_app.__file__)).with_name("py.typed").exists()
    for name in module.__all__:
        kind = getattr(module, name)
        assert inspect.getdoc(kind), name
        for member, value in inspect.getmembers(kind, inspect.isfunction):
            if not member.startswith("_") and value.__module__.startswith("skywire_app"):
                assert inspect.getdoc(value), f"{name}.{member}"
                untyped = set(inspect.signature(value).parameters) - {"self", "cls"} - set(value.__annotations__)
                assert not untyped and "return" in value.__annotations__, f"{name}.{member}: {untyped}"


def test_every_app_that_ships_has_a_page_a_line_in_the_readme_and_help() -> None:
    scripts = tomllib.loads((DOCS.parent / "apps" / "pyproject.toml").read_text())["project"]["scripts"]
    readme = (DOCS.parent / "README.md").read_text()
    for script, place in scripts.items():
        name = script.removeprefix("skywire-")
        pages = [page for page in (PAGE, *(DOCS / "apps").glob("*.md")) if script in page.read_text()]
        assert pages, f"no page speaks of {script}"
        assert f"`{name}`" in readme, f"{name} is not in the README"
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        said = CliRunner().invoke(command, ["--help"])
        assert said.exit_code == 0 and "Usage" in said.output, script
        assert (command.help or "").strip(), f"{script} --help does not say what it is for"
        for option in command.params:
            if isinstance(option, Option) and option.name != "help":
                assert option.help or option.type.name in ("integer range", "float range"), (script, option.name)


def test_every_test_that_the_failures_name_exists() -> None:
    named = set(re.findall(r"`((?:tests/[a-z_/]+/)?test_[a-z_]+(?:\.py)?)`", (DOCS / "failures.md").read_text()))
    assert len(named) > 10
    tests = DOCS.parent / "tests" / "system"
    missing = {name for name in named if not (DOCS.parent / name if "/" in name else tests / name).is_file()}
    assert not missing


def test_every_limit_that_a_failure_may_name_stands_in_the_page_of_errors() -> None:
    named = re.compile(r'(?:limit=|limit_reached\(|_limit\()"([a-z_]+)"')
    folders = ("libs", "services", "apps")
    sources = [path for folder in folders for path in (DOCS.parent / folder).rglob("src/**/*.py")]
    limits = {limit for path in sources for limit in named.findall(path.read_text())}
    assert {"rules", "calls", "nonces"} <= limits
    page = (DOCS / "errors.md").read_text().partition("## Limits")[2]
    assert not {limit for limit in limits if f"`{limit}`" not in page}
    files = {path.as_posix(): path.read_text() for path in sources}
    for file, constants in re.findall(r"(\S+\.py) ((?:`[A-Z_]+`(?:, )?)+)", page):
        texts = [text for path, text in files.items() if path.endswith("/" + file.partition("/")[2])]
        for constant in re.findall(r"[A-Z_]+", constants):
            found = (re.search(rf"^{constant}\b.* = ", text, re.MULTILINE) for text in texts)
            assert any(found), f"{file} has no {constant}"
