"""Every service with every other one cut down to their contracts: requests to what the consumer is known to send,
answers to what it says that it reads. What works so works between releases that have no more in common than that.

The other half of a contract, that nothing is asked beyond it, is in the same run: a call or a field that no contract
names fails it, and so does one that nobody uses any more.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from contract.consumers.contracts import Call, Contract, cut, fields, load
from contract.consumers.world import network, scenario
from contract.everything.casebook import BOOKS, method_of, services
from google.protobuf.message import Message
from skywire_common.rpc.client import RpcChannel
from skywire_node.control import announcing
from skywire_node.loops import rerouting

CONTRACTS = load()
# Asked by people and by programs for people, by no service; Carry is a link, whose bytes are no messages.
FOR_PEOPLE = {"skywire.node.v1.NodeAdmin", "skywire.common.v1.Process", "skywire.node.v1.NodeLink"}
OF_PEOPLE = {
    "/skywire.transport_discovery.v1.TransportDiscovery/GetTransport",
    "/skywire.transport_discovery.v1.TransportDiscovery/GetStatus",
    "/skywire.transport_discovery.v1.TransportDiscovery/WatchTransports",
    "/skywire.transport_discovery.v1.NodeDirectory/ListNodes",
}


class Run:
    """What was asked in one run by whom, and what came back, after all was cut down to the contracts."""

    def __init__(self) -> None:
        self.sent: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.answered: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.beyond: set[str] = set()


@pytest.fixture(scope="module")
async def run() -> AsyncIterator[Run]:
    seen = Run()
    roles: dict[bytes, str] = {}
    agreed = {(contract.consumer, method): call for contract in CONTRACTS for method, call in contract.calls.items()}
    uncut = RpcChannel.call

    async def call(
        channel: RpcChannel, path: str, request: Message, answer: type[Message], *, timeout: float, signed: bool = True
    ) -> Message:
        consumer = roles.get(bytes(channel._secret.public), "") if channel._secret is not None else ""
        if not consumer:
            return await uncut(channel, path, request, answer, timeout=timeout, signed=signed)
        terms = agreed.get((consumer, path), Call(frozenset(), frozenset()))
        sent = set(fields(request))
        seen.sent[consumer, path] |= sent
        seen.beyond |= {f"{consumer} sends {name} in {path}" for name in sent - terms.sends}
        request = _copy(request)
        cut(request, terms.sends)
        answered = await uncut(channel, path, request, answer, timeout=timeout, signed=signed)
        seen.answered[consumer, path] |= set(fields(answered)) & terms.reads
        cut(answered, terms.reads)
        return answered

    directory = Path(tempfile.mkdtemp(prefix="sw"))  # short: sockets lie in it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RpcChannel, "call", call)
        patch.setattr(announcing, "RECONCILE_SECONDS", 0.5)
        # Of two transports a node tells in several calls, of the one that is left to some in one.
        patch.setattr(announcing, "MAX_ENTRIES", 1)
        patch.setattr(rerouting, "RENEW_CHECK", 0.1)
        patch.setattr(rerouting, "RENEW_EARLY", 7200.0)
        async with network(directory, roles) as world:
            await scenario(world)
        yield seen
    shutil.rmtree(directory, ignore_errors=True)


def _copy(message: Message) -> Message:
    same = type(message)()
    same.CopyFrom(message)
    return same


def test_nothing_is_asked_beyond_the_contracts(run: Run) -> None:
    assert run.beyond == set()
    agreed = {(contract.consumer, method) for contract in CONTRACTS for method in contract.calls}
    assert run.sent.keys() == agreed


@pytest.mark.parametrize("contract", CONTRACTS, ids=[f"{one.consumer} of {one.provider}" for one in CONTRACTS])
def test_what_a_contract_names_is_sent_and_answered(run: Run, contract: Contract) -> None:
    for method, call in contract.calls.items():
        for seen, named in ((run.sent, call.sends), (run.answered, call.reads)):
            assert named - seen[contract.consumer, method] <= call.sometimes, method


@pytest.mark.parametrize("contract", CONTRACTS, ids=[f"{one.consumer} of {one.provider}" for one in CONTRACTS])
def test_a_contract_names_methods_and_fields_that_are_there_and_have_cases(contract: Contract) -> None:
    for method, call in contract.calls.items():
        service, _, name = method.removeprefix("/").partition("/")
        assert any(step["call"] == name for case in BOOKS[service]["cases"] for step in case["steps"]), method
        found = method_of(service, name)
        for descriptor, paths in ((found.input_type, call.sends), (found.output_type, call.reads)):
            for path in paths:
                at = descriptor
                for part in path.split("."):
                    assert part in at.fields_by_name, f"{method}: {path}"
                    at = at.fields_by_name[part].message_type


def test_every_method_has_a_consumer_or_is_for_people() -> None:
    asked = {method for contract in CONTRACTS for method in contract.calls}
    offered = {
        f"/{service}/{method}"
        for service, methods in services().items()
        if service not in FOR_PEOPLE
        for method in methods
    }
    assert offered == asked | OF_PEOPLE
    assert not asked & OF_PEOPLE
