"""`skywire config`, and a node's first start: real services say what they can be told, and nothing is undocumented."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from skywire_cli.config import MODULES
from skywire_cli.main import run

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"
PEER = ["--set", "transport_discovery.address=127.0.0.1:9", "--set", "transport_discovery.public_key=" + "02" * 33]


def asked(capsys: pytest.CaptureFixture[str], *line: str, status: int = 0) -> Any:
    assert run(["config", *line, "--json"]) == status
    out, err = capsys.readouterr()
    return json.loads(err if status else out)


@pytest.mark.parametrize("service", MODULES)
def test_every_key_says_what_it_is_and_stands_in_the_docs(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = asked(capsys, "show", service)
    text = DOCS.read_text()
    assert len(rows) > 5
    for row in rows:
        assert row["meaning"], row
        assert row["type"], row
        assert row["unit"] == "s" if row["key"].endswith("_s") else True, row
        last = row["key"].rpartition(".")[2]
        assert f"`{last}`" in text or f'"{last}"' in text or f".{last}`" in text or f"`{last}`:" in text, row


def test_new_check_show_and_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asked(capsys, "new", "node", str(tmp_path / "n"), *PEER[:0], "--set", "grace_s=3", "--app", "ssh-client")
    file = Path(made["config"])
    assert Path(made["key"]).stat().st_mode & 0o777 == 0o600
    assert made["apps"] == [str(file.parent / "apps" / "ssh-client.v1.0")] and os.access(made["apps"][0], os.X_OK)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert Path(made["public_key_file"]).read_text() == made["public_key"] + "\n"
    assert made["public_key_file"] == made["key"] + ".pub"
    assert asked(capsys, "check", "node", "--config", str(file)) == {"ok": True}
    monkeypatch.setenv("SKYWIRE_INTERFACES__LINK", "0.0.0.0:7000")
    rows = {row["key"]: row for row in asked(capsys, "show", "node", "--config", str(file))}
    assert (rows["interfaces.link"]["value"], rows["interfaces.link"]["source"]) == ("0.0.0.0:7000", "environment")
    assert (rows["grace_s"]["value"], rows["grace_s"]["source"], rows["grace_s"]["unit"]) == (3, "file", "s")
    assert (rows["heartbeat_s"]["value"], rows["heartbeat_s"]["source"]) == (20.0, "default")
    said = asked(capsys, "new", "node", str(tmp_path / "n"), status=8)
    assert said["code"] == "ALREADY_EXISTS" and "exists" in said["message"]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trusted_node": []}))
    said = asked(capsys, "check", "node", "--config", str(file), status=1)
    assert said["code"] == "CONFIG"
    assert "no key trusted_node; the nearest is trusted_nodes" in said["message"]


def test_a_setup_node_needs_its_discovery_and_secrets_stay_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from skywire_common.curve import SecretKey

    key = str(SecretKey.generate().public)
    directory = tmp_path / "s"
    assert "transport_discovery is missing" in asked(capsys, "new", "setup-node", str(directory), status=1)["message"]
    assert not directory.exists()
    asked(capsys, "new", "setup-node", str(directory), *PEER[:3], f"transport_discovery.public_key={key}")
    made = asked(capsys, "new", "discovery", str(tmp_path / "d"))
    rows = {row["key"]: row["value"] for row in asked(capsys, "show", "discovery", "--config", made["config"])}
    assert rows["database_url"] == "(hidden)"


def test_what_cannot_be_written_is_9_and_nothing_is_left(tmp_path: Path) -> None:
    # No file may grow, as on a full disk.
    line = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", "skywire_cli", "config", "new", "node"]
    done = subprocess.run([*line, str(tmp_path / "a" / "b"), "--json"], capture_output=True, text=True)
    error = json.loads(done.stderr)
    assert (done.returncode, error["code"]) == (9, "FILE")
    assert "secret.key: File too large" in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_node_starts_the_first_time_without_a_config_and_says_what_it_made(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYWIRE_")}
    environment["SKYWIRE_HOME"] = str(tmp_path)
    ready = tmp_path / "ready.json"
    for began in ("first", "second"):
        with (tmp_path / "log").open("w+") as log:
            line = [sys.executable, "-m", "skywire_node", "--ready-file", str(ready)]
            process = subprocess.Popen(line, env=environment, stderr=log)
            try:
                deadline = time.monotonic() + 60
                while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.05)
                key = json.loads(ready.read_text())["public_key"]
                socket = tmp_path / "node" / "admin.sock"
                assert socket.is_socket()
                # It serves, says why it is not READY, and needs nobody.
                assert run(["node", "summary", "--socket", str(socket), "--json"]) == 4
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            log.seek(0)
            text = log.read()
        if began == "first":
            first_key = key
            made = (str(tmp_path / "node" / "secret.key"), str(tmp_path / "node" / "config.json"), key)
            assert all(part in text.splitlines()[0] for part in made)
        else:
            assert key == first_key
            assert "first start" not in text
    assert (tmp_path / "node" / "apps").is_dir()


@pytest.mark.slow  # each of twelve questions starts a service
def test_a_file_alone_says_whose_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for service in ("node", "discovery"):
        made = asked(capsys, "new", service, str(tmp_path / service))
        for words in ((made["config"],), (service, made["config"]), (service, "--config", made["config"])):
            assert asked(capsys, "check", *words) == {"ok": True}
            assert asked(capsys, "show", *words)
    nobodys = tmp_path / "nobodys.json"
    nobodys.write_text("[")
    assert "not JSON" in asked(capsys, "check", str(nobodys), status=1)["message"]
    nobodys.write_text("[]")
    for words in ((str(nobodys),), ("nonsense",), ("node", "a", "b"), ()):
        assert asked(capsys, "check", *words, status=2)["code"] == "USAGE"


def test_a_service_or_a_setting_that_is_none_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    file.write_text("{}")
    said = asked(capsys, "check", "nod", str(file), status=2)["message"]
    assert "nod is neither a service (node, setup-node, discovery) nor a file; the nearest is node" in said
    said = asked(capsys, "new", "node", str(tmp_path / "n"), "--set", "foo", status=2)
    assert (said["code"], "KEY=VALUE" in said["message"]) == ("USAGE", True)
    assert not (tmp_path / "n").exists()
