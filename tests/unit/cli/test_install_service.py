"""`skywire install-service`: units that systemd takes, written where asked, and nothing enabled."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from skywire_cli.install_service import Unit, render
from skywire_cli.main import run


def made(capsys: pytest.CaptureFixture[str], *line: str, status: int = 0) -> dict[str, object]:
    assert run([*line, "--json"]) == status
    out, err = capsys.readouterr()
    document = json.loads(err if status else out)
    assert isinstance(document, dict)
    return document


def test_a_unit_for_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(made(capsys, "config", "new", "node", str(tmp_path / "my node"))["config"])
    units = tmp_path / "units"
    line = ("install-service", "node", "--config", config, "--dir", str(units), "--run-as", "nobody")
    unit = Path(str(made(capsys, *line)["unit"]))
    assert [path.name for path in units.iterdir()] == [unit.name] == ["skywire-node.service"]
    read = configparser.RawConfigParser(strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(unit.read_text())
    service = read["Service"]
    assert service["ExecStart"].endswith(f'skywire-node" --config "{config}"')
    assert service["User"] == "nobody"
    assert service["ReadWritePaths"] == f'"{tmp_path / "my node"}"'
    assert (tmp_path / "my node" / "local").is_dir()
    # The same again is no change; another is refused.
    made(capsys, *line)
    other = (*line[:-1], "daemon")
    assert made(capsys, *other, status=8)["code"] == "ALREADY_EXISTS"
    made(capsys, *other, "--force")
    assert "User=daemon" in unit.read_text()
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        checked = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
        assert "skywire-node.service:" not in checked.stderr


def test_a_wrong_configuration_gets_no_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    line = ("install-service", "discovery", "--config", str(config), "--dir", str(tmp_path / "units"))
    assert made(capsys, *line, status=1)["code"] == "CONFIG"
    assert not (tmp_path / "units").exists()


def test_paths_are_one_word_without_specifiers_or_variables() -> None:
    strange = Path('/a b/%n/$HOME/"q"/config.json')
    text = render(Unit("node", Path("/bin/skywire-node"), strange, [strange.parent], "me", 20, True))
    assert r'--config "/a b/%%n/$$HOME/\"q\"/config.json"' in text
    assert r'ReadWritePaths="/a b/%%n/$HOME/\"q\""' in text
    assert "User=" not in text
    assert "WantedBy=default.target" in text
