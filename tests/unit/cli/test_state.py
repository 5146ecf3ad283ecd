"""The state file: written whole, read back equal, anything else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from skywire_cli.failures import CliError
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.state import STATE_FILE, Kind, ServiceState, State, Status, load, save
from skywire_common.errors import DecodeError

STATE = State(
    launcher=ProcessId(17, 4711),
    shape="line of 1",
    status=Status.READY,
    services=(
        ServiceState(name="discovery", kind=Kind.DISCOVERY, status=Status.STARTING, log="/x/discovery.log"),
        ServiceState(
            name="node1",
            kind=Kind.NODE,
            status=Status.READY,
            process=ProcessId(18, 4712),
            public_key="02" * 33,
            interfaces={"admin": "/x/admin.sock", "link": "127.0.0.1:5"},
            links=2,
            links_up=1,
        ),
    ),
)


def test_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert load(tmp_path) is None
    save(tmp_path, STATE)
    assert load(tmp_path) == STATE
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_node_is_found_by_its_number() -> None:
    assert STATE.node(1).socket == Path("/x/admin.sock")
    with pytest.raises(CliError, match="nodes 1 to 1"):
        STATE.node(2)
    with pytest.raises(CliError, match="discovery is starting"):
        STATE.discovery()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version":2}', '{"version":1,"launcher":[1]}'])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(DecodeError, match="no state of a testnet"):
        load(tmp_path)


def test_stopped_testnet_does_not_run_though_its_launcher_lives() -> None:
    this = ProcessId.this()
    assert replace(STATE, launcher=this).running
    assert not replace(STATE, launcher=this, status=Status.STOPPED).running
    assert not replace(STATE, launcher=this, status=Status.FAILED).running
    assert not replace(STATE, launcher=this._replace(start_ticks=this.start_ticks - 1)).running
