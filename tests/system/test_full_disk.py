"""A disk without room, at every moment at which a testnet or a node wants to write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from system.lines import DEADLINE

pytestmark = pytest.mark.system


FULL = """
set -eu
mount -t tmpfs -o size=$1 none "$2"
set +e
[ -z "$4" ] || dd if=/dev/zero of="$2/full" bs=4k status=none 2>"/dev/null"
timeout 50 "$3" -m skywire_cli testnet up --nodes 2 --dir "$2/net" --json
echo "exit $?"
[ ! -d "$2/net" ] || flock --nonblock "$2/net" true && echo "free"
ls -A "$2/net" 2>/dev/null | grep '^[.]'
pgrep --full "$2/net"
[ ! -d "$2/net" ] || "$3" -m skywire_cli testnet down --dir "$2/net" --json
rm -f "$2/full"
ls -A "$2"
"""


RUNNING = """
set -u
mount -t tmpfs -o size=12m none "$1"
place="$1/net"
python="$2"
skywire() { timeout 50 "$python" -m skywire_cli "$@" --dir "$place" --json; echo "exit $?"; }
skywire testnet up --nodes 2 --detach --app "hello@1:20=$python -m skywire_apps.helloworld" >/dev/null
dd if=/dev/zero of="$1/full" bs=4k status=none 2>/dev/null
skywire node apps auto-start hello off 2>&1
skywire status
skywire doctor
rm "$1/full"
skywire node apps auto-start hello off 2>&1
skywire testnet down
"""


@pytest.fixture
def private() -> list[str]:
    """The start of a command line that may mount, and nobody else sees it."""
    line = ["unshare", "--map-root-user", "--mount"]
    try:
        subprocess.run([*line, "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no mount namespaces here")
    return line


@pytest.mark.parametrize(
    ("size", "full"),
    [
        ("64k", "full"),
        pytest.param("64k", "", marks=pytest.mark.slow),
        pytest.param("200k", "", marks=pytest.mark.slow),
    ],
    ids=["not-a-byte", "no-room-for-the-first", "no-room-for-services"],
)
def test_full_disk_is_told_and_everything_let_go(short_path: Path, private: list[str], size: str, full: str) -> None:
    line = [*private, "bash", "-c", FULL, "full", size, str(short_path), sys.executable, full]
    done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE)
    # Not even the state can be written where there is not a byte: nothing is left for `down`.
    down = [] if full else ['{"ended": false, "kept": false}']
    assert done.stdout.splitlines() == ["exit 9", "free", *down], done
    error = json.loads(done.stderr)
    assert error["code"] == "NO_SPACE"
    assert str(short_path / "net") in error["message"] and "ENOSPC" in error["message"]


@pytest.mark.slow  # eight processes one after the other
def test_a_disk_that_fills_up_under_a_running_node_is_named_by_everybody(short_path: Path, private: list[str]) -> None:
    line = [*private, "bash", "-c", RUNNING, "running", str(short_path), sys.executable]
    done = subprocess.run(line, capture_output=True, text=True, timeout=DEADLINE)
    refused, refused_exit, status, status_exit, findings, findings_exit, *after = done.stdout.splitlines()
    assert (refused_exit, status_exit, findings_exit) == ("exit 9", "exit 4", "exit 1"), done
    assert json.loads(refused)["code"] == "NO_SPACE" and "disk is full" in json.loads(refused)["message"]
    assert any("0 MiB are free" in reason for reason in json.loads(status)["reasons"])
    assert {one["code"] for one in json.loads(findings)} == {"DISK_FULL", "DISCOVERY_DISK_FULL"}
    assert (after[1], after[3]) == ("exit 0", "exit 0"), done
