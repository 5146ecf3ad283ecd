"""Values to messages and back without loss; any message is a value or a DecodeError, nothing else."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skywire.common.v1 import common_pb2
from skywire.setup_node.v1 import setup_node_pb2
from skywire_common.app_rules import MAX_WORD, check_word, is_word
from skywire_common.convert import entries, errors, routes, rules
from skywire_common.convert.fields import MAX_TIME
from skywire_common.curve import SecretKey
from skywire_common.entries import MAX_ENTRY_JSON, MAX_TYPE_SIZE, Entry, SignedEntry, signed_entry_from_json
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import MAX_PORT, Addr, PublicKey
from skywire_common.routes import MAX_HOPS, Hop, PathPair
from skywire_common.rules import AppRule, ForwardRule, NodeRules, PlacedRule

from .messages import messages

keys = st.tuples(st.sampled_from((b"\x02", b"\x03")), st.binary(min_size=32, max_size=32)).map(
    lambda parts: PublicKey(parts[0] + parts[1])
)
ids = st.integers(1, (1 << 32) - 1)
ports = st.integers(1, 65535)
uuids = st.binary(min_size=16, max_size=16).map(lambda raw: UUID(bytes=raw))
addrs = st.builds(Addr, keys, ports)
expiries = st.integers(0, (1 << 63) - 1)
placed = st.builds(
    PlacedRule,
    ids,
    st.builds(AppRule, expiries, ids, addrs, ports) | st.builds(ForwardRule, expiries, ids, uuids),
    st.none() | uuids,
)
signatures = st.just(b"") | st.binary(min_size=65, max_size=65)


@st.composite
def path_pairs(draw: st.DrawFn) -> PathPair:
    """A way there and another way back over random nodes."""
    nodes = draw(st.lists(keys, min_size=2, max_size=7, unique=True))
    middle = draw(st.permutations(nodes[1:-1]))
    passed = [nodes[0], *nodes[1:-1], nodes[-1]], [nodes[-1], *middle, nodes[0]]
    forward, reverse = (tuple(Hop(a, b, draw(uuids)) for a, b in itertools.pairwise(way)) for way in passed)
    return PathPair(forward, reverse)


@given(addrs)
def test_addresses_come_back(addr: Addr) -> None:
    assert routes.addr_from(routes.addr_to(addr)) == addr


@given(st.lists(path_pairs(), max_size=3))
def test_routes_come_back(pairs: list[PathPair]) -> None:
    assert routes.path_pairs_from(routes.path_pairs_to(pairs)) == pairs


@given(st.lists(placed, max_size=rules.MAX_RULES_PER_NODE))
def test_rules_come_back(given_rules: list[PlacedRule]) -> None:
    assert list(rules.placed_rules_from(rules.placed_rules_to(given_rules))) == given_rules


@given(st.lists(st.builds(NodeRules, keys, st.lists(ids, max_size=4).map(tuple)), unique_by=lambda node: node[0]))
def test_rules_of_nodes_come_back(nodes: list[NodeRules]) -> None:
    assert list(rules.node_rules_from(rules.node_rules_to(nodes))) == nodes


@given(
    st.builds(
        SignedEntry,
        st.builds(Entry, uuids, st.tuples(keys, keys), st.text(max_size=32), st.booleans()),
        st.tuples(signatures, signatures),
        expiries,
    )
)
def test_entries_come_back(signed: SignedEntry) -> None:
    assert entries.signed_entries_from(entries.signed_entries_to([signed])) == [signed]


def test_a_real_entry_keeps_its_signatures() -> None:
    one, other = SecretKey.generate(), SecretKey.generate()
    signed = SignedEntry.unsigned(Entry.between(one.public, other.public, "tcp", public=True)).sign(one).sign(other)
    back = entries.signed_entry_from(entries.signed_entry_to(signed))
    back.check()
    assert entries.signed_entry_from(common_pb2.SignedEntry(entry=entries.entry_to(signed.entry))).signatures == (
        b"",
        b"",
    )


@given(st.sampled_from(ErrorCode), st.text(max_size=100), st.sampled_from(Phase), st.integers(0, MAX_HOPS))
def test_failures_come_back(code: ErrorCode, cause: str, phase: Phase, hop: int) -> None:
    said = FailureFields(phase=phase, hop_index=hop, hop_key=b"\x02" + bytes(32), setup_id=secrets.token_bytes(16))
    back = errors.failure_from(errors.error_detail(Failure(code, cause, said)))
    assert (back.code, back.cause, back.fields) == (code, cause, said)


READERS: list[tuple[type[Any], Callable[[Any], object]]] = [
    (common_pb2.Addr, routes.addr_from),
    (common_pb2.Path, routes.path_from),
    (common_pb2.PathPair, routes.path_pair_from),
    (common_pb2.TransportEntry, entries.entry_from),
    (common_pb2.SignedEntry, entries.signed_entry_from),
    (common_pb2.ErrorDetail, errors.failure_from),
    (setup_node_pb2.InstalledRule, rules.placed_rule_from),
    (setup_node_pb2.NodeRules, lambda message: rules.node_rules_from([message])),
]


@pytest.mark.parametrize(("kind", "read"), READERS, ids=[kind.DESCRIPTOR.name for kind, _ in READERS])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_message_is_a_value_or_a_decode_error(
    kind: type[Any], read: Callable[[Any], object], data: st.DataObject
) -> None:
    message = data.draw(messages(kind))
    try:
        read(message)
    except DecodeError as error:
        assert str(error)


def hop(source: bytes, target: bytes) -> common_pb2.Hop:
    return common_pb2.Hop(from_key=source, to_key=target, transport_id=bytes(16))


def key(number: int) -> bytes:
    return b"\x02" + number.to_bytes(32, "big")


def test_paths_are_bounded_and_hang_together() -> None:
    def path(*numbers: int) -> common_pb2.Path:
        return common_pb2.Path(hops=[hop(key(a), key(b)) for a, b in itertools.pairwise(numbers)])

    assert len(routes.path_from(path(*range(MAX_HOPS + 1)))) == MAX_HOPS
    for wrong, said in (
        (path(*range(MAX_HOPS + 2)), "1 to 32 hops"),
        (common_pb2.Path(), "1 to 32 hops"),
        (path(1, 2, 1), "a node twice"),
        (common_pb2.Path(hops=[hop(key(1), key(2)), hop(key(3), key(4))]), "does not start where"),
    ):
        with pytest.raises(DecodeError, match=said):
            routes.path_from(wrong)
    with pytest.raises(DecodeError, match="way back"):
        routes.path_pair_from(common_pb2.PathPair(forward=path(1, 2), reverse=path(3, 1)))


def test_rules_of_one_set_up_are_bounded() -> None:
    with pytest.raises(DecodeError, match="at most 16"):
        rules.route_ids_from(range(1, 18))
    with pytest.raises(DecodeError, match="at most 64"):
        rules.node_rules_from([setup_node_pb2.NodeRules(public_key=key(n)) for n in range(65)])
    with pytest.raises(DecodeError, match="twice"):
        rules.node_rules_from([setup_node_pb2.NodeRules(public_key=key(1))] * 2)
    with pytest.raises(DecodeError, match="at most 16"):
        rules.placed_rules_from([setup_node_pb2.InstalledRule()] * 17)


def test_routes_and_the_texts_of_an_error_are_bounded() -> None:
    with pytest.raises(DecodeError, match="at most 64"):
        routes.path_pairs_from([common_pb2.PathPair()] * 65)
    with pytest.raises(DecodeError, match="cause"):
        errors.failure_from(common_pb2.ErrorDetail(code="CLOSED", cause="x" * (errors.MAX_CAUSE + 1)))
    with pytest.raises(DecodeError, match="limit"):
        errors.failure_from(common_pb2.ErrorDetail(code="CLOSED", limit="x" * (errors.MAX_LIMIT_NAME + 1)))
    with pytest.raises(DecodeError, match="hop_index"):
        errors.failure_from(common_pb2.ErrorDetail(code="CLOSED", hop_index=MAX_HOPS + 1))


def test_the_port_of_an_address_is_bounded() -> None:
    assert routes.addr_from(common_pb2.Addr(public_key=key(1), port=MAX_PORT)).port == MAX_PORT
    for port in (0, MAX_PORT + 1):
        with pytest.raises(DecodeError, match="port"):
            routes.addr_from(common_pb2.Addr(public_key=key(1), port=port))


def test_the_type_of_an_entry_is_bounded() -> None:
    one, other = PublicKey(key(1)), PublicKey(key(2))
    longest = Entry.between(one, other, "t" * MAX_TYPE_SIZE, public=True)
    longest.check()
    assert entries.entry_from(entries.entry_to(longest)) == longest
    longer = Entry.between(one, other, "t" * (MAX_TYPE_SIZE + 1), public=True)
    with pytest.raises(DecodeError, match="at most 32 of a-z"):
        longer.check()
    with pytest.raises(DecodeError, match="type: at most 32"):
        entries.entry_from(entries.entry_to(longer))


def test_times_are_bounded() -> None:
    signed = SignedEntry.unsigned(Entry.between(PublicKey(key(1)), PublicKey(key(2)), "tcp", public=True))
    for time in (0, MAX_TIME):
        message = entries.signed_entry_to(signed._replace(registered=time))
        assert entries.signed_entry_from(message).registered == time
    # More than the most does not fit the field.
    with pytest.raises(DecodeError, match="registered is 0 to"):
        entries.signed_entry_from(entries.signed_entry_to(signed._replace(registered=-1)))
    with pytest.raises(DecodeError, match="server_time_ms is 0 to"):
        errors.failure_from(common_pb2.ErrorDetail(code="CLOSED", server_time_ms=-1))


def test_an_entry_in_json_is_bounded() -> None:
    with pytest.raises(DecodeError, match=f"at most {MAX_ENTRY_JSON} bytes"):
        signed_entry_from_json(b"{}".ljust(MAX_ENTRY_JSON + 1))
    with pytest.raises(DecodeError, match="signatures"):
        signed_entry_from_json(b"{}".ljust(MAX_ENTRY_JSON))


def test_an_apps_name_is_bounded_and_so_is_what_is_said_of_one() -> None:
    assert is_word("x" * MAX_WORD)
    assert not is_word("x" * (MAX_WORD + 1))
    with pytest.raises(Failure) as caught:
        check_word("x" * 100_000)
    assert len(str(caught.value)) < 4 * MAX_WORD


def test_entries_of_one_request_are_bounded() -> None:
    with pytest.raises(DecodeError, match="at most 1000"):
        entries.signed_entries_from([common_pb2.SignedEntry()] * 1001)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (AppRule(1, 0, Addr(PublicKey(key(1)), 1), 1), "response id"),
        (AppRule(1, 1, Addr(PublicKey(key(1)), 0), 1), "port"),
        (AppRule(1, 1, Addr(PublicKey(key(1)), 1), 0), "port"),
        (AppRule(1 << 63, 1, Addr(PublicKey(key(1)), 1), 1), "expiry"),
        (ForwardRule(1, 0, UUID(int=1)), "next id"),
    ],
)
def test_what_the_layout_of_a_rule_lets_through_is_refused(rule: AppRule | ForwardRule, said: str) -> None:
    message = setup_node_pb2.InstalledRule(route_id=1, rule=rule.encode())
    with pytest.raises(DecodeError, match=said):
        rules.placed_rule_from(message)
