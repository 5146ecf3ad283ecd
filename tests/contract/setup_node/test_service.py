"""The setup node alone, its neighbours real on the wire: loops made, renewed, rerouted, closed, and all that fails."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from contract.setup_node.network import Network
from google.protobuf.message import Message
from skywire.setup_node.v1 import setup_node_pb2 as pb
from skywire_common.convert.rules import node_rules_from, placed_rules_from
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, Phase
from skywire_setup_node import attempt as attempt_module
from skywire_setup_node import directory as directory_module

NOTHING = [(0, 0, 0)] * 3


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    made = Network(tmp_path)
    await made.begin()
    yield made
    await made.end()


async def fails(network: Network, request: Message, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        await network.call(request, **options)
    return caught.value


def renewing(request: Any, answer: Any, **changes: Any) -> pb.RenewLoopRequest:
    return pb.RenewLoopRequest(setup_id=request.setup_id, rules=answer.rules, edge_salt=request.edge_salt, **changes)


def closing_of(request: Any, answer: Any, **changes: Any) -> pb.CloseLoopRequest:
    said = {"setup_id": request.setup_id, "rules": answer.rules, "edge_salt": request.edge_salt}
    return pb.CloseLoopRequest(**said, loop_id=request.setup_id, **changes)


async def settled(network: Network, state: object) -> None:
    """Wait until the background undo has brought every node there."""
    async with asyncio.timeout(10):
        while network.state() != state:
            await asyncio.sleep(0.01)


async def test_a_loop_is_made_renewed_and_closed(network: Network) -> None:
    request = network.creating()
    answer = await network.call(request)
    middle, other, last = network.nodes
    assert network.state() == [(2, 0, 0), (2, 0, 0), (2, 0, 1)]
    (offer,) = last.door.offers
    assert offer.setup_id == request.setup_id
    assert offer.noise_message == request.noise_message
    assert offer.initiator_epoch == 9
    assert answer.responder_epoch == last.door.epoch
    assert len(answer.noise_message) == 49
    own = placed_rules_from(answer.initiator_rules)
    assert {rule.route_id for rule in own} == {request.initiator_ids.forward, request.initiator_ids.app}
    named = {rules.public_key: set(rules.route_ids) for rules in node_rules_from(answer.rules)}
    assert named == {node.public_key: set(node.table.rules) for node in network.nodes}
    assert abs(answer.expiry - time.time() - 7200) < 60

    renewal = renewing(request, answer, time_to_live_s=9000)
    renewed = await network.call(renewal)
    assert {rule.expiry for node in network.nodes for rule in node.table.rules.values()} == {renewed.expiry}

    closing = closing_of(request, answer, tell=last.public_key, reason="the app went away")
    assert not (await network.call(closing)).unreached
    assert network.state() == NOTHING
    assert last.door.closings == [(request.setup_id, "the app went away", 0, network.initiator.public)]
    assert len(middle.door.removed) == len(other.door.removed) == 2


async def test_a_reroute_keeps_the_loop(network: Network) -> None:
    first = network.creating()
    await network.call(first)
    pair = network.pair([network.nodes[1], network.nodes[2]])
    made = network.creating(pair=pair)
    reroute = pb.RerouteLoopRequest(
        setup_id=secrets.token_bytes(16),
        loop_id=first.setup_id,
        initiator=first.initiator,
        responder=first.responder,
        routes=made.routes,
        initiator_ids=made.initiator_ids,
        edge_salt=made.edge_salt,
    )
    answer = await network.call(reroute)
    assert len(answer.rules) == 2
    assert network.state() == [(2, 0, 0), (4, 0, 0), (4, 0, 1)]
    assert network.nodes[2].door.loops == {first.setup_id: network.nodes[2].door.offers[1].app_id}
    assert network.nodes[2].door.offers[1].loop_id == first.setup_id


async def test_only_the_initiator_may_ask(network: Network) -> None:
    other = network.as_key(SecretKey.generate())
    assert (await fails(network, network.creating(), channel=other)).code is ErrorCode.PERMISSION_DENIED
    assert network.state() == NOTHING


async def test_a_stranger_who_knows_everything_but_an_edges_key_changes_nothing(network: Network) -> None:
    request = network.creating()
    answer = await network.call(request)
    stranger = network.as_key(SecretKey.generate())
    failure = await fails(network, renewing(request, answer, time_to_live_s=9000), channel=stranger)
    assert failure.code is ErrorCode.PERMISSION_DENIED
    closed = await network.call(closing_of(request, answer), stranger)
    assert sorted(closed.unreached) == sorted(node.public_key for node in network.nodes)
    wrong = network.creating(setup_id=request.setup_id)  # an edge without the salt of its set-up
    assert (await fails(network, renewing(wrong, answer))).code is ErrorCode.PERMISSION_DENIED
    assert network.state() == [(2, 0, 0), (2, 0, 0), (2, 0, 1)]
    assert {rule.expiry for node in network.nodes for rule in node.table.rules.values()} == {answer.expiry}
    assert all(node.table.refused for node in network.nodes)


async def test_either_edge_has_the_rules_renewed_and_removed(network: Network) -> None:
    request = network.creating()
    answer = await network.call(request)
    responder = network.as_key(network.nodes[2].secret)
    renewed = await network.call(renewing(request, answer, time_to_live_s=9000), responder)
    assert {rule.expiry for node in network.nodes for rule in node.table.rules.values()} == {renewed.expiry}
    assert not (await network.call(closing_of(request, answer), responder)).unreached
    assert [rules for rules, _, _ in network.state()] == [0, 0, 0]


async def test_requests_that_make_no_sense_are_refused_before_anything_is_reserved(network: Network) -> None:
    good = network.creating()
    crooked = network.creating()
    crooked.routes.reverse.hops[0].from_key = network.initiator.public
    for request in (
        network.creating(setup_id=b""),
        network.creating(noise_message=bytes(48)),
        network.creating(initiator_ids=pb.InitiatorIds(forward=1, app=1)),
        network.creating(time_to_live_s=5),
        network.creating(edge_salt=b""),
        pb.RenewLoopRequest(setup_id=good.setup_id),
        pb.CloseLoopRequest(setup_id=good.setup_id),
        crooked,
        pb.RenewLoopRequest(setup_id=good.setup_id, rules=[pb.NodeRules(public_key=network.initiator.public)]),
        pb.CloseLoopRequest(setup_id=good.setup_id, rules=[pb.NodeRules(public_key=network.initiator.public)]),
        pb.CloseLoopRequest(setup_id=good.setup_id, reason="x" * 1000),
    ):
        assert (await fails(network, request)).code is ErrorCode.INVALID_ARGUMENT
    assert network.state() == NOTHING
    assert network.discovery.asked == 0


async def test_a_refusal_of_the_responder_is_told_with_its_place_and_everything_is_undone(network: Network) -> None:
    network.nodes[2].door.refusal = Failure(ErrorCode.PORT_CLOSED, "no app on port 80")
    request = network.creating()
    failure = await fails(network, request)
    assert (failure.code, failure.cause) == (ErrorCode.PORT_CLOSED, "no app on port 80")
    fields = failure.fields
    assert (fields.phase, fields.hop_index, fields.hop_key) == (Phase.CONFIRM, 3, network.nodes[2].public_key)
    assert fields.setup_id == request.setup_id
    await settled(network, NOTHING)


async def test_a_node_that_does_not_trust_the_setup_node_is_named(network: Network) -> None:
    network.nodes[1].trusted.clear()
    failure = await fails(network, network.creating())
    assert failure.code is ErrorCode.PERMISSION_DENIED
    assert (failure.fields.phase, failure.fields.hop_index) == (Phase.RESERVE, 2)
    await settled(network, NOTHING)


async def test_a_node_that_is_gone_is_named_and_one_that_moved_is_found(network: Network) -> None:
    await network.call(network.creating())
    middle = network.nodes[0]
    await middle.stop()
    failure = await fails(network, network.creating())
    assert failure.code is ErrorCode.UNAVAILABLE
    assert failure.fields.hop_key == middle.public_key
    await middle.start()
    network.discovery.addresses[middle.public_key] = middle.address
    await network.call(network.creating())


async def test_a_node_that_never_answers_is_named_within_the_steps_deadline(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_module, "STEP_SECONDS", 0.3)
    last = network.nodes[2]
    last.door.release.clear()
    failure = await fails(network, network.creating())
    assert failure.code is ErrorCode.DEADLINE
    assert (failure.fields.phase, failure.fields.hop_key) == (Phase.CONFIRM, last.public_key)
    assert failure.fields.retryable
    await settled(network, NOTHING)
    # What the node does after all is ended by itself.
    last.door.release.set()
    async with asyncio.timeout(10):
        while len(last.door.closings) < len(("undo", "by itself")):
            await asyncio.sleep(0.01)
    assert network.state() == NOTHING


async def test_a_node_that_nobody_knows_is_named(network: Network) -> None:
    del network.discovery.addresses[network.nodes[1].public_key]
    failure = await fails(network, network.creating())
    assert failure.code is ErrorCode.UNKNOWN_NODE
    assert failure.fields.hop_key == network.nodes[1].public_key


async def test_a_discovery_that_is_away_is_no_hops_fault_and_known_nodes_need_it_not(network: Network) -> None:
    network.discovery.failure = Failure(ErrorCode.UNAVAILABLE, "database away")
    failure = await fails(network, network.creating())
    assert failure.code is ErrorCode.DISCOVERY_STALE
    assert failure.fields.hop_key == b""
    assert failure.fields.retryable
    network.discovery.failure = None
    await network.call(network.creating())
    network.discovery.failure = Failure(ErrorCode.UNAVAILABLE, "database away")
    await network.call(network.creating())
    assert network.discovery.asked <= 2 * len(network.nodes)


async def test_a_node_that_lost_its_rules_is_named_by_a_renewal_and_the_others_are_renewed(network: Network) -> None:
    request = network.creating()
    answer = await network.call(request)
    lost = network.nodes[1]
    lost.table.drop(list(lost.table.rules))
    renewal = renewing(request, answer, time_to_live_s=9000)
    failure = await fails(network, renewal)
    assert (failure.code, failure.fields.hop_key) == (ErrorCode.ROUTE_LOST, lost.public_key)
    assert all(rule.expiry > answer.expiry for rule in network.nodes[2].table.rules.values())


async def test_closing_says_which_nodes_it_could_not_reach(network: Network) -> None:
    request = network.creating()
    answer = await network.call(request)
    await network.nodes[1].stop()
    closing = closing_of(request, answer)
    closed = await network.call(closing)
    assert list(closed.unreached) == [network.nodes[1].public_key]
    assert network.state() == [(0, 0, 0), (2, 0, 0), (0, 0, 1)]


async def test_many_at_once_share_channels_and_leave_nothing(network: Network) -> None:
    requests = [network.creating() for _ in range(60)]
    answers = await asyncio.gather(*(network.call(request) for request in requests))
    assert network.discovery.asked == len(network.nodes)
    assert [node.state() for node in network.nodes] == [(120, 0, 0), (120, 0, 0), (120, 0, 60)]
    await asyncio.gather(
        *(
            network.call(closing_of(request, answer, tell=network.nodes[2].public_key))
            for request, answer in zip(requests, answers, strict=True)
        )
    )
    assert network.state() == NOTHING


async def test_stopping_waits_for_the_undo(network: Network) -> None:
    last = network.nodes[2]
    last.door.release.clear()
    call = asyncio.create_task(network.call(network.creating()))
    async with asyncio.timeout(10):
        while not last.door.offers:
            await asyncio.sleep(0.01)
    last.door.refusal = Failure(ErrorCode.BACKLOG_FULL, "64 are waiting")
    last.door.release.set()
    await network.scope.close()
    assert network.state() == NOTHING
    with pytest.raises(Failure):
        await call


async def test_channels_is_bounded(network: Network) -> None:
    directory = directory_module.Directory(network.channel, network.setup_secret, max_channels=2)

    async def resolve(node: object) -> tuple[str, str]:
        return "control", "127.0.0.1:9"

    directory._resolve = resolve  # type: ignore[assignment,method-assign]
    first, second, third = (SecretKey.generate().public for _ in range(3))
    async with directory.channel(first):
        async with directory.channel(second):
            with pytest.raises(Failure) as caught:
                async with directory.channel(third):
                    pass
            assert caught.value.fields.limit == "channels"
        async with directory.channel(third):
            assert len(directory) == 2
            assert directory.knows(first)
            assert not directory.knows(second)
    await directory.close()
