"""The README to the letter: its app, its commands and its grpcurl lines, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from skywire_cli.testnet.state import load
from system.test_first_hour import commands

pytestmark = pytest.mark.system
README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def block(language: str, word: str) -> str:
    (found,) = [text for kind, text in BLOCKS if kind == language and word in text]
    return found


def test_tutorial_and_grpcurl_lines_work(short_path: Path) -> None:
    folder = short_path / "hello"
    folder.mkdir()
    app = block("python", "App.setup")
    assert len(app.splitlines()) <= 20
    (folder / "hello.py").write_text(app)
    *tutorial, down = block("sh", "hello.py").strip().splitlines()
    assert down == "skywire testnet down"
    script = "\n".join(["set -eu", *tutorial, block("sh", "grpcurl -plaintext $DISCOVERY list"), down])
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
        )
    finally:
        state = load(folder / "skywire-testnet")
        if state is not None:
            state.launcher.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answer: HELLO THROUGH THREE NODES" in done.stdout.splitlines()
    assert "skywire.transport_discovery.v1.RouteFinder" in done.stdout
    assert "rpc FindRoutes" in done.stdout
    assert '"status": "SERVING"' in done.stdout
    assert '"state": "READY"' in done.stdout
    assert [path.name for path in folder.iterdir()] == ["hello.py"]


def test_five_minutes_with_a_network(short_path: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    wrong = []
    try:
        for line in block("sh", "--topology ring").strip().splitlines():
            # A dial takes longer on a machine that runs all tests at once.
            line = line.replace("sleep 1 ", "sleep 3 ")
            done = subprocess.run(
                ["bash", "-c", line], cwd=short_path, env=environment, capture_output=True, text=True, timeout=100
            )
            # A doctor may find something in a network that is two seconds old; anything else has to do what it says.
            if done.returncode > line.startswith("skywire doctor"):
                wrong.append((line, done.stdout, done.stderr))
    finally:
        state = load(short_path / "skywire-testnet")
        if state is not None:
            state.launcher.kill()
    assert not wrong
    assert list(short_path.iterdir()) == []


@pytest.mark.slow  # a testnet, and 33 cases for each of two apps
def test_the_tutorial_as_it_is_typed(short_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "apps" / "tutorial.md").read_text()
    for name, program in zip(("notebook", "note"), re.findall(r"```python\n(#!.*?)```", page, re.DOTALL), strict=True):
        (short_path / f"{name}.py").write_text(program)
    network, conformance = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            ["bash", "-c", f"set -eu\n{network}{conformance}"],
            cwd=short_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
        )
    finally:
        state = load(short_path / "skywire-testnet")
        if state is not None:
            state.launcher.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"text": "hello"' in done.stdout
    assert done.stdout.count(" 0 do not, ") == 2


def test_what_the_first_hour_types_stands_in_the_readme() -> None:
    page = (Path(__file__).parents[2] / "docs" / "first-hour.md").read_text()
    typed = re.sub(r" +#.*", "", block("sh", "alice/config.json")).replace("\n  ", "\n")
    services = ("skywire-discovery", "skywire-setup-node", "skywire-node")
    kinds = (
        "skywire config new",
        "KNOWS",
        "SETUP",
        "BOB",
        "cp",
        *services,
        "skywire-ssh-client scp",
        "curl -s ",
        "python3 -m http.server",
    )
    missing = [
        command
        for said in re.findall(r"```console\n(.*?)```", page, re.DOTALL)
        for command in commands(said)
        if command.startswith(kinds) and command.replace("\n  ", "\n") not in typed
    ]
    assert missing == []


def test_every_command_of_the_table_exists() -> None:
    rows = [line for line in README.splitlines() if line.startswith("| `skywire ")]
    assert len(rows) > 5
    for row in rows:
        group: tuple[str, ...] = ()
        for text in re.findall(r"`([a-z][a-z -]*)`", row.split(" | ")[0]):
            words = tuple(text.split())
            if words[0] == "skywire":
                path = words[1:]
                group = path[:-1]
            else:
                path = (*group, *words)  # the next command of the same group
            _exists(path)


def _exists(path: tuple[str, ...]) -> None:
    import click
    from skywire_cli.main import cli

    context = click.Context(cli)
    command: click.Command | None = cli
    for word in path:
        assert isinstance(command, click.Group), path
        command = command.get_command(context, word)
    assert command is not None, path


def test_every_page_of_the_docs_is_named() -> None:
    docs = Path(__file__).parents[2] / "docs"
    for page in (*docs.glob("*.md"), *docs.glob("apps/*.md")):
        assert f"docs/{page.relative_to(docs)}" in README, page


def test_every_target_of_the_makefile_that_is_named_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE))
    assert named >= {"demo", "test", "setup"}
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (Path(__file__).parents[2] / link).exists(), link
