"""What `skywire testnet status` makes of a state file and of what nodes say, before the launcher noticed anything."""

from __future__ import annotations

import pytest
from skywire_cli.testnet.identity import ProcessId
from skywire_cli.testnet.state import Kind, ServiceState, State, Status
from skywire_cli.testnet.status import Row, now

OURS = ProcessId.this()
# The number is a live process's; who started then is gone.
GONE = OURS._replace(start_ticks=OURS.start_ticks - 1)
NODE = ServiceState(name="node1", kind=Kind.NODE, status=Status.READY, process=OURS, links=2, links_up=2)
READY: Row = {"state": "READY", "transports_up": 2}


def seen(node: ServiceState, said: Row | None, status: Status = Status.READY) -> State:
    return now(State(launcher=OURS, shape="", status=status, services=(node,)), {node.name: said})


def test_a_network_that_is_well() -> None:
    assert seen(NODE, READY) == State(launcher=OURS, shape="", status=Status.READY, services=(NODE,))


@pytest.mark.parametrize("status", [Status.READY, Status.STARTING])
def test_a_process_that_died_unnoticed(status: Status) -> None:
    state = seen(ServiceState(**{**vars(NODE), "process": GONE}), None, status)
    (node,) = state.services
    assert (node.status, node.reason, node.process, node.links_up) == (Status.FAILED, "it is gone", None, 0)
    assert state.status is (Status.FAILED if status is Status.READY else status)


def test_a_node_that_is_not_ready_makes_the_network_degraded() -> None:
    assert seen(NODE, READY | {"state": "DEGRADED", "transports_up": 1}).status is Status.DEGRADED
    assert seen(NODE, None).status is Status.DEGRADED
    (node,) = seen(NODE, READY | {"transports_up": 9}).services
    assert node.links_up == 2  # those beyond the plan do not count
