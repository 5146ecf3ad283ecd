"""The doctor finds each planted fault by its name, names the right repair, and finds nothing on a node that is well."""

from __future__ import annotations

import asyncio
import copy
import os
import socket as sockets
from collections.abc import Callable
from pathlib import Path

import pytest
from skywire_cli.doctor.checks import LEAST_FREE, judge
from skywire_cli.doctor.facts import Facts, PeerFact
from skywire_cli.doctor.gather import gather, listens
from skywire_cli.doctor.ports import Taken, taken
from skywire_cli.doctor.repairs import repair
from skywire_cli.failures import Exit
from skywire_cli.main import run
from skywire_cli.status import judged, lines
from skywire_common import disk

OWN, OTHER, DISCOVERY, SETUP = ("02" * 33, "03" * 33, "02ab" + "00" * 31, "03cd" + "00" * 31)
TRANSPORT, STRANGE = "00000000-0000-0000-0000-00000000004d", "00000000-0000-0000-0000-00000000004e"
APP = Path("/apps/chat.v1.0")


def well() -> Facts:
    statuses = [{"submitted": True, "is_up": True, "at": 1, "alive": True} for _ in range(2)]
    listed = {
        "transport_id": TRANSPORT,
        "is_up": True,
        "statuses": statuses,
        "entry": {"entry": {"edges": [OWN, OTHER]}},
    }
    return Facts(
        Path("/n/admin.sock"),
        socket_exists=True,
        summary={
            "build": {"public_key": OWN, "version": "1"},
            "epoch": 5,
            "uptime_s": 90,
            "state": "READY",
            "reasons": [],
            "link_address": "127.0.0.1:7000",
            "control_address": "127.0.0.1:7001",
            "transports_up": 1,
            "transports": 1,
            "apps_ready": 1,
            "apps": 1,
            "loops": 0,
            "rules": 0,
            "rules_orphaned": 0,
            "packets_forwarded": 0,
            "bytes_forwarded": 0,
        },
        apps=[
            {
                "name": "chat",
                "version": "1.0",
                "port": 1,
                "auto_start": True,
                "state": "READY",
                "reason": "",
                "restarts": 0,
            }
        ],
        transports=[
            {
                "transport_id": TRANSPORT,
                "remote": OTHER,
                "type": "tcp",
                "public": True,
                "state": "UP",
                "reason": "",
                "since_s": 60,
            }
        ],
        link_open=True,
        config=Path("/n/config.json"),
        document={
            "transport_discovery": {"address": "h:1", "public_key": DISCOVERY},
            "setup_nodes": [{"address": "h:2", "public_key": SETUP}],
            "trusted_nodes": [SETUP],
            "transports": [{"public_key": OTHER}],
            "apps": [{"app": "chat", "version": "1.0", "port": 1}],
            "interfaces": {"link": "127.0.0.1:7000"},
        },
        key_file=Path("/n/secret.key"),
        key_mode=0o600,
        public_key=OWN,
        executables={APP: "ok"},
        directories={Path("/apps"): "ok"},
        free_bytes=LEAST_FREE,
        discovery=PeerFact("h:1", DISCOVERY),
        record={"alive": True, "epoch": 5, "endpoints": []},
        listed=[listed],
        setup_nodes=[PeerFact("h:2", SETUP)],
    )


def test_a_node_that_is_well_has_no_findings() -> None:
    assert judge(well()) == []


def change(**values: object) -> Callable[[Facts], None]:
    return lambda facts: [setattr(facts, name, value) for name, value in values.items()] and None  # type: ignore[func-returns-value]


def put(place: str, *path: str | int, value: object) -> Callable[[Facts], None]:
    def plant(facts: Facts) -> None:
        found = getattr(facts, place)
        for part in path[:-1]:
            found = found[part]
        found[path[-1]] = value

    return plant


FAULTS = [
    ("CONFIG_WRONG", change(config_problem="no key trusted_node"), "config check"),
    ("KEY_READABLE", change(key_mode=0o644), "chmod 600"),
    ("KEY_UNUSABLE", change(key_problem="No such file"), "skywire keygen"),
    ("DIRECTORY_MISSING", put("directories", Path("/apps"), value="missing"), "mkdir"),  # type: ignore[arg-type]
    ("DIRECTORY_READ_ONLY", put("directories", Path("/apps"), value="not writable"), "chown"),  # type: ignore[arg-type]
    ("DISK_FULL", change(free_bytes=LEAST_FREE - 1), "free at least"),
    ("SOCKET_STALE", change(summary=None, silent="UNAVAILABLE"), "rm /n/admin.sock"),
    ("NODE_SILENT", change(summary=None, silent="DEADLINE"), "log"),
    (
        "NODE_NOT_RUNNING",
        change(summary=None, socket_exists=False, start="skywire testnet restart node1"),
        "start it: skywire testnet restart node1",
    ),
    (
        "PORT_TAKEN",
        change(
            summary=None, silent="UNAVAILABLE", taken=[Taken("interfaces.link", "h:7000", "is taken", "nginx (pid 7)")]
        ),
        "stop nginx (pid 7), or change interfaces.link in /n/config.json",
    ),
    ("KEY_DIFFERS", change(public_key=OTHER), "restart"),
    ("LINK_PORT_CLOSED", change(link_open=False), "firewall"),
    ("DEGRADED", put("summary", "reasons", value=["rules are not kept: disk"]), "skywire logs"),
    ("CONFIG_NOT_IN_FORCE", put("apps", 0, "port", value=9), "restart the node"),
    ("CONFIG_NOT_IN_FORCE", put("document", "interfaces", value={"link": "127.0.0.1:7777"}), "restart the node"),
    ("TRANSPORT_MISSING", put("document", "transports", value=[{"public_key": SETUP}]), "transports add"),
    ("APP_MISSING", put("executables", APP, value="missing"), "install it"),  # type: ignore[arg-type]
    ("APP_NOT_EXECUTABLE", put("executables", APP, value="not executable"), "chmod +x"),  # type: ignore[arg-type]
    ("APP_STOPPED", put("apps", 0, "state", value="STOPPED"), "apps start chat"),
    ("APP_DEGRADED", put("apps", 0, "state", value="DEGRADED"), "logs --app chat"),
    ("APP_RESTARTS", put("apps", 0, "restarts", value=3), "logs --app chat"),
    ("NO_DISCOVERY", change(discovery=None), "name its address"),
    ("DISCOVERY_AWAY", change(discovery=PeerFact("h:1", DISCOVERY, "UNAVAILABLE", "refused")), "start it"),
    (
        "DISCOVERY_DISK_FULL",
        change(discovery=PeerFact("h:1", DISCOVERY, "UNAVAILABLE", "database or disk is full", disk.LIMIT)),
        "free some room",
    ),
    ("DISCOVERY_KEY_DIFFERS", change(discovery=PeerFact("h:1", DISCOVERY, "UNAUTHENTICATED", "")), "correct"),
    ("CLOCK_SKEW", change(discovery=PeerFact("h:1", DISCOVERY, clock_ahead_s=-90.0)), "set-ntp"),
    ("NOT_REGISTERED", change(record=None), "wait a minute"),
    ("LEASE_OVER", put("record", "alive", value=False), "skywire logs"),
    ("DUPLICATE_IDENTITY", put("record", "epoch", value=6), "stop the other one"),
    ("TRANSPORT_DOWN", put("transports", 0, "state", value="DOWN"), "can be reached"),
    ("NOT_LISTED", change(listed=[]), "registers it"),
    ("STATUS_DIFFERS", put("listed", 0, "is_up", value=False), "wait half a minute"),
    ("LISTED_ONLY", change(transports=[]), "--fix"),
    ("NO_SETUP_NODE", put("document", "setup_nodes", value=[]), "add one"),
    ("TRUSTS_NOBODY", put("document", "trusted_nodes", value=[]), "trusted_nodes"),
    ("NOT_TRUSTED", put("document", "trusted_nodes", value=[OTHER]), "to trusted_nodes"),
    ("SETUP_NODE_AWAY", change(setup_nodes=[PeerFact("h:2", SETUP, "DEADLINE", "no answer")]), "start it"),
    ("SETUP_NODE_KEY_DIFFERS", change(setup_nodes=[PeerFact("h:2", SETUP, "UNAUTHENTICATED")]), "correct"),
    (
        "SETUP_NODE_REFUSED",
        change(setup_nodes=[PeerFact("h:2", SETUP, unreached=[OTHER])]),
        f"trusted_nodes of {OTHER}",
    ),
    ("RULES_ORPHANED", put("summary", "rules_orphaned", value=2), "rules remove"),
]


def test_without_a_discovery_no_setup_node_is_said_to_be_refused() -> None:
    facts = well()
    facts.discovery = PeerFact("h:1", DISCOVERY, "UNAVAILABLE", "refused")
    facts.setup_nodes = [PeerFact("h:2", SETUP, unreached=[OTHER])]
    assert [one.code for one in judge(facts)] == ["DISCOVERY_AWAY"]


def test_a_socket_on_which_somebody_listens_is_no_leftover(short_path: Path) -> None:
    path = short_path / "sock"
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as server:
        server.bind(str(path))
        assert not listens(path)
        server.listen(0)
        assert [listens(path) for _ in range(3)] == [True, True, True], "also with a full queue"
    assert not listens(path)


@pytest.mark.parametrize(("code", "plant", "repair_says"), FAULTS, ids=[code for code, *_ in FAULTS])
def test_a_planted_fault_is_found_with_its_repair(code: str, plant: Callable[[Facts], None], repair_says: str) -> None:
    facts = copy.deepcopy(well())
    plant(facts)
    findings = judge(facts)
    found = [one for one in findings if one.code == code]
    assert found, findings
    assert repair_says in found[0].repair
    # One fault is one finding; only a missing transport has a second side.
    assert {one.code for one in findings} <= {code, "TRANSPORT_MISSING", "SOCKET_STALE" if facts.taken else code}


def test_which_node_a_repair_is_for_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = well()
    facts.apps[0]["state"] = "STOPPED"
    monkeypatch.setattr("skywire_cli.doctor.command._look", lambda target, file: facts)
    assert run(["doctor", "--node", "3"]) == Exit.CHECK_FAILED
    assert "needs, for this node: --node 3" in capsys.readouterr().out
    run(["doctor"])
    assert "for this node" not in capsys.readouterr().out
    facts = well()
    run(["doctor", "--node", "3"])
    assert "for this node" not in capsys.readouterr().out


def test_a_dead_neighbour_is_told_from_an_unreachable_one() -> None:
    facts = well()
    facts.transports[0] |= {"state": "DOWN", "reason": "refused"}
    facts.neighbours = {OTHER: {"alive": False}}
    assert [one.code for one in judge(facts)] == ["NEIGHBOUR_DEAD"]


async def test_faults_of_files_are_gathered_and_repaired(tmp_path: Path) -> None:
    import json

    key, app = tmp_path / "secret.key", tmp_path / "apps" / "chat.v1.0"
    app.parent.mkdir()
    app.touch(mode=0o644)
    key.write_text("01" * 32)
    key.chmod(0o640)
    config = tmp_path / "config.json"
    document = {
        "node": {"static_secret_key_file": str(key)},
        "apps_path": str(app.parent),
        "local_path": str(tmp_path / "local"),
        "apps": [{"app": "chat", "version": "1.0"}],
        "transport_discovery": {"address": "127.0.0.1:1", "public_key": OWN},
    }
    config.write_text(json.dumps(document))
    left = sockets.socket(sockets.AF_UNIX)
    left.bind(str(tmp_path / "admin.sock"))
    left.close()

    async def codes(*, fix: bool) -> set[str]:
        facts = await gather(tmp_path / "admin.sock", config, lambda _: "")
        for finding in judge(facts):
            if fix and finding.fix is not None:
                await repair(finding.fix, facts)
        return {finding.code for finding in judge(facts)}

    files = {"KEY_READABLE", "APP_NOT_EXECUTABLE", "DIRECTORY_MISSING", "SOCKET_STALE"}
    assert files <= await codes(fix=True)
    after = await codes(fix=False)
    assert not files & after
    assert {"NODE_NOT_RUNNING", "TRUSTS_NOBODY", "NO_SETUP_NODE"} <= after
    assert await asyncio.to_thread(key.stat)
    # With a key that may be read the discovery is asked, and nobody is there.
    assert "DISCOVERY_AWAY" in after

    # What is no key wants another path, not another mode.
    key.write_text("<html></html>")
    key.chmod(0o644)
    assert {"KEY_READABLE", "KEY_UNUSABLE"} & await codes(fix=True) == {"KEY_UNUSABLE"}
    key.unlink()
    key.mkdir()
    mode = key.stat().st_mode
    assert {"KEY_READABLE", "KEY_UNUSABLE"} & await codes(fix=True) == {"KEY_UNUSABLE"}
    assert key.stat().st_mode == mode


def test_a_taken_port_is_told_with_its_holder() -> None:
    holder = sockets.socket()
    holder.bind(("127.0.0.1", 0))
    holder.listen()
    port = holder.getsockname()[1]
    free = sockets.socket()
    free.bind(("127.0.0.1", 0))
    document = {
        "interfaces": {"link": f"127.0.0.1:{port}", "control": "127.0.0.1:0", "metrics": "192.0.2.1:7"},
        "transport_types": [{"type": "grpc", "listen": f"0.0.0.0:{port}"}, {"type": "other"}],
    }
    try:
        link, metrics, grpc = taken(document)
        assert (link.key, link.address, link.why) == ("interfaces.link", f"127.0.0.1:{port}", "is taken")
        assert f"(pid {os.getpid()})" in link.who and grpc.key == "transport_types.0.listen"
        assert metrics == Taken("interfaces.metrics", "192.0.2.1:7", "is no address of this machine", "")
    finally:
        holder.close()
        free.close()
    assert [one.key for one in taken(document)] == ["interfaces.metrics"]


def test_status_is_degraded_by_whatever_its_owner_would_want_to_know() -> None:
    facts = well()
    assert facts.summary is not None
    assert judged(facts.summary, facts.apps, facts.transports) == ("READY", [])
    assert judged(facts.summary, facts.apps, facts.transports, "3 MiB are free") == ("DEGRADED", ["3 MiB are free"])
    facts.apps[0] |= {"state": "STOPPED", "reason": "exit code 3"}
    facts.transports[0] |= {"state": "DOWN", "reason": "refused"}
    state, reasons = judged(facts.summary, facts.apps, facts.transports * 20)
    assert state == "DEGRADED"
    assert reasons[0] == "app chat is STOPPED: exit code 3"
    screen = lines(state, reasons, facts.summary, facts.apps)
    assert len(screen) < 24
    assert any("more: skywire doctor" in line for line in screen)
