"""The command line: exit codes, errors as JSON, nothing loaded that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from skywire_cli.main import cli, run
from skywire_common.packet import MAX_ROUTE_ID

GOLDEN = Path(__file__).parents[2] / "vectors" / "skywire-2019.json"


def test_every_command_has_a_page_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    import click

    context = click.Context(cli)
    pending = [(name,) for name in cli.list_commands(context)]
    assert {"keygen", "node", "route", "testnet", "vectors"} <= {name for (name,) in pending}
    while pending:
        path = pending.pop()
        command: click.Command | None = cli
        for name in path:
            assert isinstance(command, click.Group)
            command = command.get_command(context, name)
        assert command is not None and command.help, path
        assert any("--json" in parameter.opts for parameter in command.params), path
        assert run([*path, "--help"]) == 0
        assert "Usage: skywire " + " ".join(path) in capsys.readouterr().out
        if isinstance(command, click.Group):
            pending += [(*path, name) for name in command.list_commands(context)]


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        (["nonsense"], 2, "USAGE"),
        (["node", "rules", "drop"], 2, "USAGE"),
        (["vectors", "check", "no/such/file"], 2, "USAGE"),
        (["node", "summary", "--socket", "no/such/socket"], 3, "UNAVAILABLE"),
        (["node", "summary", "--dir", "no/such/testnet"], 3, "NO_TESTNET"),
        (["testnet", "status", "--dir", "no/such/testnet"], 3, "NO_TESTNET"),
        (["testnet", "down", "--dir", "no/such/testnet"], 3, "NO_TESTNET"),
        (["testnet", "up", "--nodes", "2", "--topology", "ring", "--dir", "no/such/testnet"], 2, "REFUSED"),
        (["route", "find", "1", "2", "--dir", "no/such/testnet"], 3, "NO_TESTNET"),
        (["route", "find", "02" * 33, "03" * 33, "--dir", "no/such/testnet"], 3, "NO_DISCOVERY"),
        (["route", "find", "02" * 33, "03" * 33, "--discovery", "127.0.0.1:1"], 3, "UNAVAILABLE"),
        (["node", "transports", "add", "zz"], 2, "USAGE"),
    ],
)
def test_errors_are_one_line_of_json_and_an_exit_code(
    line: list[str], status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*line, "--json"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    document = json.loads(err)
    assert set(document) == {"code", "message", "hint", "details"}
    assert document["code"] == code
    assert document["message"]


@pytest.mark.parametrize("group", [[], ["testnet"], ["node"], ["loop"]])
def test_a_group_alone_shows_its_help(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(group) == 2
    out, err = capsys.readouterr()
    assert out.startswith("Usage: skywire ") and "Commands:" in out
    assert err == ""
    assert run([*group, "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, json.loads(err)["code"]) == ("", "USAGE")


def test_errors_for_people_name_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "rules", "--dir", "no/such/testnet"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "no testnet runs in no/such/testnet" in err
    assert "hint: " in err


def test_json_may_stand_anywhere_on_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["--json", "vectors", "check"], ["vectors", "--json", "check"], ["vectors", "check", "--json"]):
        assert run([*line, str(GOLDEN)]) == 0
        assert json.loads(capsys.readouterr().out)["passed"] is True


def test_vectors_that_differ_end_in_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(GOLDEN.read_text())
    document["packets"][1]["route_id"] += 1
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    assert run(["vectors", "check", str(changed)]) == 1
    text = capsys.readouterr().out
    assert "packets[1]" in text
    assert "NOT all hold" in text
    assert run(["vectors", "check", str(changed), "--json"]) == 1
    sections = {section["section"]: section for section in json.loads(capsys.readouterr().out)["sections"]}
    assert sections["packets"]["differing"] == 1
    assert sections["keys"]["differing"] == 0


def test_help_loads_neither_grpc_nor_rich_nor_sql() -> None:
    program = (
        "import sys; from skywire_cli.main import run; run(['--help']);"
        "print([m for m in ('grpc', 'rich', 'sqlalchemy', 'coincurve', 'asyncio', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_asking_a_node_loads_no_logging_no_settings_and_no_sql() -> None:
    program = (
        "import sys, skywire_cli.node, skywire_cli.admin;"
        "print([m for m in ('structlog', 'rich', 'pydantic', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_key_file_is_the_owners_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from skywire_common.curve import SecretKey

    file = tmp_path / "secret.key"
    assert run(["keygen", str(file)]) == 0
    printed = capsys.readouterr().out.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(SecretKey.load(file).public) == printed
    assert file.with_name("secret.key.pub").read_text() == printed + "\n"
    before = file.read_bytes()
    assert run(["keygen", str(file), "--json"]) == 8
    assert json.loads(capsys.readouterr().err)["code"] == "ALREADY_EXISTS"
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "ends"),
    [("0000000a", (10, 10)), ("0xa-0xFF", (10, 255)), ("00000000-ffffffff", (0, 0xFFFFFFFF))],
)
def test_rules_are_named_by_ids_and_ranges(text: str, ends: tuple[int, int]) -> None:
    from skywire_cli.node_rules import _range

    assert _range(text) == ends


@pytest.mark.parametrize(
    "text",
    ["xyz", "0xb-0xa", "00000001-", "-00000001", "0-100000000", "17", "1063615855", "0x", "0x123456789", "0000_00a"],
)
def test_what_is_no_range_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "rules", "remove", "--socket", "no/such", "--", text]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("text", [str(MAX_ROUTE_ID), str(MAX_ROUTE_ID + 1), "9" * 5_000])
def test_a_decimal_number_that_could_be_an_id_is_bounded(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "rules", "remove", "--socket", "no/such", text]) == 2
    said = capsys.readouterr().err
    assert ("the decimal number" in said, "is ffffffff" in said) == 2 * (text == str(MAX_ROUTE_ID),)


def test_completion_names_commands_of_groups_that_are_not_loaded_yet() -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "_SKYWIRE_COMPLETE": "bash_complete",
        "COMP_WORDS": "skywire node tr",
        "COMP_CWORD": "2",
    }
    line = [sys.executable, "-c", "import sys; sys.argv[0] = 'skywire'; from skywire_cli.main import main; main()"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["plain,transports"]


def test_tables_are_wide_in_a_pipe_and_not_padded(capsys: pytest.CaptureFixture[str]) -> None:
    from skywire_cli.output import console, table

    console().print(table("keys", ("a", "b"), [("x" * 150, "y"), ("x", "")]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "keys"
    assert any("x" * 150 in line and line.endswith("y") for line in lines)
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("module", ["skywire_cli.main", "click", "skywire_common.errors"])
def test_ctrl_c_while_it_is_loaded_is_quiet(module: str) -> None:
    # The signal comes in the middle of an import.
    program = f"""
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from skywire_cli.entry import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
