"""Apps as they are written on the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.failures import CliError
from skywire_cli.programs import VERSION
from skywire_cli.testnet.app_option import by_node, parse
from skywire_cli.testnet.missing import hint_for
from skywire_cli.testnet.plan import AppPlan
from skywire_common.errors import DecodeError


def test_python_files_and_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo.py").write_text("")
    command = (sys.executable, str(tmp_path / "echo.py"))
    assert parse("echo@3:20=./echo.py serve 'two words' {node1}", auto_start=True) == (
        2,
        AppPlan("echo", VERSION, 20, command, ("serve", "two words", "{node1}"), True),
    )
    assert parse("s@1:9=sh -c true", auto_start=False) == (
        0,
        AppPlan("s", VERSION, 9, (str(shutil.which("sh")),), ("-c", "true"), False),
    )


def test_one_that_ships_needs_no_program() -> None:
    index, app = parse("helloworld@2:21 --dial '{node1}:20'", auto_start=True)
    assert (index, app.args, Path(app.command[0]).name) == (1, ("--dial", "{node1}:20"), "skywire-helloworld")
    with pytest.raises(CliError, match="no app echo ships") as caught:
        parse("echo@2:21", auto_start=True)
    assert "helloworld" in caught.value.hint


def test_a_program_of_this_folder_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "echo.v1.0"
    program.write_text("")
    with pytest.raises(CliError, match="not executable"):
        parse("echo@1:20=echo.v1.0", auto_start=True)
    program.chmod(0o755)
    assert parse("echo@1:20=echo.v1.0", auto_start=True)[1].command == (str(program),)


def test_its_node_is_named_by_number_or_name() -> None:
    assert parse("s@node3:20=sh", auto_start=True) == parse("s@3:20=sh", auto_start=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo",
        "echo@1=sh",
        "echo@x:1=sh",
        "@1:1=sh",
        "e@1:1=",
        "e@1:1=' ",
        "../e@1:1=sh",
        "e@1:1=n.py",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        parse(text, auto_start=True)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CliError, match="no program no/such"):
        parse("e@1:1=no/such", auto_start=True)


def test_apps_are_gathered_by_node_which_has_programs_of_its_own() -> None:
    first, second = parse("a@1:1=sh x", auto_start=True), parse("a@2:1=env y", auto_start=True)
    assert by_node([first, second]) == {0: (first[1],), 1: (second[1],)}


def test_the_hint_fits_what_the_app_did() -> None:
    broke = "exit code 1: app a broke the protocol of its pipe:"
    named = pb.App(name="a", version="1.0", reason=f"{broke} this pipe is for a version 1.0, not a version 1.1")
    assert "as a, the name before the @ of --app, version 1.0" in hint_for(named)
    assert "app-conformance" in hint_for(pb.App(name="a", reason=f"{broke} there is no frame of type 0x6c"))
