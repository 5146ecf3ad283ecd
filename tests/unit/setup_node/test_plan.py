"""The plan of a set-up: for any pair of routes the rules lead from edge to edge, and every step can be undone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_common.errors import DecodeError
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import MAX_HOPS, Path, PathPair, nodes
from skywire_common.rules import MAX_TIME_TO_LIVE, AppRule, ForwardRule, PlacedRule
from skywire_setup_node.plan import (
    Close,
    Confirm,
    Install,
    LoopRequest,
    Plan,
    Remove,
    Step,
    hop_index,
    plan,
    reservations,
    undo,
)
from unit.setup_node.routes import KEYS, any_request, path, request

EXPIRY = 1_800_000_000
requests = st.integers(0, 1 << 40).map(any_request)


def planned(asked: LoopRequest) -> tuple[Plan, dict[PublicKey, tuple[int, ...]]]:
    rng = random.Random(asked.setup_id)
    ids = {step.node: tuple(rng.randrange(1, 1 << 32) for _ in range(step.wanted)) for step in reservations(asked)}
    return plan(asked, ids, EXPIRY), ids


def tables(asked: LoopRequest, made: Plan) -> dict[PublicKey, dict[int, PlacedRule]]:
    """Return each node's rules by route id, as its table would hold them."""
    installs = [install for tier in made.tiers for install in tier]
    installs.append(Install(asked.initiator.public_key, made.initiator_rules))
    return {install.node: {rule.route_id: rule for rule in install.rules} for install in installs}


def walk(held: dict[PublicKey, dict[int, PlacedRule]], way: Path, first: int) -> tuple[AppRule, int]:
    """Send a packet along the rules from the first node's own loops; return the rule at its end with its id."""
    node, route_id, source = way[0].source, first, None
    edges = {hop.transport: {hop.source, hop.target} for hop in way}
    for _ in range(MAX_HOPS + 1):
        placed = held[node][route_id]
        assert placed.from_transport == source
        assert placed.rule.expiry == EXPIRY
        if isinstance(placed.rule, AppRule):
            assert node == way[-1].target
            return placed.rule, route_id
        source, route_id = placed.rule.next_transport, placed.rule.next_id
        (node,) = edges[source] - {node}
    raise AssertionError("the rules go round in a ring")


@given(requests)
def test_packets_follow_the_rules_from_edge_to_edge_both_ways(asked: LoopRequest) -> None:
    made, _ = planned(asked)
    held = tables(asked, made)
    there, arrives_b = walk(held, asked.routes.forward, asked.forward_id)
    assert (there.remote, there.local_port) == (asked.initiator, asked.responder.port)
    assert arrives_b == made.confirm.app_id
    back, arrives_a = walk(held, asked.routes.reverse, made.confirm.forward_id)
    assert (back.remote, back.local_port) == (asked.responder, asked.initiator.port)
    assert arrives_a == asked.app_id
    assert there.response_id == made.confirm.forward_id
    assert back.response_id == asked.forward_id


@given(requests)
def test_every_reserved_id_is_used_once_and_no_other(asked: LoopRequest) -> None:
    made, ids = planned(asked)
    assert {entry.public_key: sorted(entry.route_ids) for entry in made.rules} == {
        node: sorted(given) for node, given in ids.items()
    }
    assert sorted(rule.route_id for rule in made.initiator_rules) == sorted((asked.forward_id, asked.app_id))
    assert asked.initiator.public_key not in ids
    assert len(ids[asked.responder.public_key]) == 2
    for node, given_ids in ids.items():
        assert len(given_ids) == sum(node in nodes(way) for way in asked.routes)


@given(requests)
def test_the_far_end_is_installed_first(asked: LoopRequest) -> None:
    made, _ = planned(asked)
    assert [install.node for install in made.tiers[0]] == [asked.responder.public_key]
    order = [install.node for tier in made.tiers for install in tier]
    assert len(order) == len(set(order))
    on_forward = [node for node in order if node in nodes(asked.routes.forward)]
    assert on_forward == list(reversed(nodes(asked.routes.forward)[1:]))


@given(requests)
def test_the_responder_can_close_without_the_initiator(asked: LoopRequest) -> None:
    made, _ = planned(asked)
    told = {entry.public_key: set(entry.route_ids) for entry in made.confirm.others}
    held = {node: set(rules) for node, rules in tables(asked, made).items()}
    del held[asked.responder.public_key]
    assert told == held


@given(requests, st.integers(0, 100))
def test_undo_covers_every_node_that_was_touched_last_first(asked: LoopRequest, upto: int) -> None:
    made, _ = planned(asked)
    steps: list[Step] = [*reservations(asked), *(step for tier in made.tiers for step in tier), made.confirm]
    done = steps[: upto % (len(steps) + 1)]
    undone = undo(asked, done)
    assert {step.node for step in undone if isinstance(step, Remove)} == {step.node for step in done}
    assert len(undone) == len(set(undone))
    confirmed = bool(done) and isinstance(done[-1], Confirm)
    if confirmed:
        responder = asked.responder.public_key
        assert undone[:2] == (Close(responder, made.confirm.app_id), Remove(responder))
    assert any(isinstance(step, Close) for step in undone) == confirmed


def test_undoing_a_reroute_never_closes_the_loop() -> None:
    asked = any_request(7, loop_id=bytes(16), noise_message=b"")
    made, _ = planned(asked)
    assert undo(asked, [made.confirm]) == (Remove(asked.responder.public_key),)


@given(requests)
def test_the_hop_index_counts_from_the_initiator(asked: LoopRequest) -> None:
    for index, node in enumerate(nodes(asked.routes.forward)):
        assert hop_index(asked.routes, node) == index
    for node in nodes(asked.routes.reverse):
        assert 0 <= hop_index(asked.routes, node) <= MAX_HOPS


def test_the_example_of_the_docstring() -> None:
    a, m, b = KEYS[:3]
    asked = request(random.Random(1), [a, m, b], [b, m, a], forward_id=101, app_id=102)
    made = plan(asked, {m: (201, 202), b: (301, 302)}, EXPIRY)
    am, mb = (hop.transport for hop in asked.routes.forward)
    assert made.initiator_rules == (
        PlacedRule(101, ForwardRule(EXPIRY, 201, am), None),
        PlacedRule(102, AppRule(EXPIRY, 101, asked.responder, asked.initiator.port), am),
    )
    at_b, at_m = made.tiers
    assert at_m == (
        Install(
            m,
            (PlacedRule(201, ForwardRule(EXPIRY, 301, mb), am), PlacedRule(202, ForwardRule(EXPIRY, 102, am), mb)),
        ),
    )
    assert at_b == (
        Install(
            b,
            (
                PlacedRule(301, AppRule(EXPIRY, 302, asked.initiator, asked.responder.port), mb),
                PlacedRule(302, ForwardRule(EXPIRY, 202, mb), None),
            ),
        ),
    )


a, m, b = KEYS[:3]
ring = [KEYS[0], *KEYS[3:], KEYS[0], KEYS[2]]


@pytest.mark.parametrize(
    "changes",
    [
        {"setup_id": bytes(15)},
        {"loop_id": bytes(17)},
        {"loop_id": bytes(16)},
        {"noise_message": bytes(48)},
        {"responder": Addr(a, 9)},
        {"initiator": Addr(m, 9)},
        {"forward_id": 0},
        {"forward_id": 1 << 32},
        {"forward_id": 5, "app_id": 5},
        {"routes": PathPair((), path(b, m, a))},
        {"routes": PathPair(path(a, m), path(b, m, a))},
        {"routes": PathPair(path(a, m, b), path(a, m, b))},
        {"routes": PathPair(path(*ring), path(b, m, a))},
        {"routes": PathPair((path(a, m)[0], path(a, b)[0]), path(b, m, a))},
        {"routes": PathPair((path(a, m)[0], path(m, b)[0]._replace(transport=path(a, m)[0].transport)), path(b, a))},
        {"time_to_live": 59},
        {"time_to_live": MAX_TIME_TO_LIVE + 1},
    ],
)
def test_a_request_that_cannot_be_planned_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        request(random.Random(2), [a, m, b], [b, m, a], **changes)
