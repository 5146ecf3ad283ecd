"""Traces over real links between data planes, and what a neighbour cannot do with them."""

from __future__ import annotations

import asyncio
import random
from uuid import uuid4

import pytest
from planes import Net, attach
from skywire_common import trace as wire
from skywire_common.drops import DropReason
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_common.trace import ANSWERS, Question, Sealed, Status
from skywire_node.link.records import Kind
from skywire_node.loops.loop_setup import Routes
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.routing.router import Router
from skywire_node.routing.table import RoutingTable
from skywire_node.routing.tracing import MAX_PENDING, MAX_TRACES, PENDING_SECONDS, QUESTIONS_PER_SECOND, Trace, Tracing

EPOCH = 1_000_000.0


class Wire:
    """An outlet that keeps its records."""

    def __init__(self) -> None:
        self.transport_id = uuid4()
        self.records: list[tuple[Kind, bytes]] = []
        self.queued = self.dropped = 0
        self.full = self.congested = False

    def record(self, kind: Kind, body: bytes) -> None:
        self.records.append((kind, body))

    def forward(self, packets: memoryview, count: int) -> bool:
        raise AssertionError("a trace is no packet")

    def slot(self, route_id: int, size: int) -> memoryview | None:
        raise AssertionError("a trace is no packet")

    def route_error(self, route_id: int, reason: DropReason) -> None:
        raise AssertionError("a trace is answered, not refused")


async def traced(net: Net, index: int, routes: Routes, remote: PublicKey) -> Trace:
    """Trace a route from one node of a net."""
    over = asyncio.Event()
    tracing = net.planes[index].tracing
    hops = {remote, *(rules.public_key for rules in routes.rules)}
    trace = tracing.begin(routes.forward_id, hops, over.set)
    await over.wait()
    return trace


async def both(net: Net, nodes: int) -> tuple[RoutedLoop, RoutedLoop]:
    near, far = await net.loop(0, nodes - 1)
    attach(near)
    attach(far)
    assert isinstance(far, RoutedLoop)
    await net.until(lambda: near.endpoint.heard)
    return near, far


@pytest.mark.parametrize("nodes", [2, 3, 6])
async def test_every_hop_answers_for_itself_in_both_directions(nodes: int) -> None:
    async with Net(nodes, seed=100 + nodes) as net:
        near, far = await both(net, nodes)
        for index, loop, keys in ((0, near, net.keys), (nodes - 1, far, net.keys[::-1])):
            trace = await traced(net, index, loop.routes, loop.remote.public_key)
            hops = trace.hops()
            assert [hop.answer.node for hop in hops] == keys
            assert [hop.answer.status for hop in hops] == [Status.PASSED_ON] * (nodes - 1) + [Status.ARRIVED]
            assert hops[0].answer.route_id == loop.routes.forward_id
            assert all(hop.answer.packets > 0 for hop in hops)
            assert 0 < hops[1].round_trip <= hops[-1].round_trip
            assert trace.forged == 0
        other = far.routes.app_id
        assert (await traced(net, 0, near.routes, near.remote.public_key)).hops()[-1].answer.route_id == other


async def test_no_hop_counts_the_hops_behind_it_and_none_hears_a_key_of_the_asker() -> None:
    async with Net(4, seed=111) as net:
        near, _ = await both(net, 4)
        heard: list[list[bytes]] = [[] for _ in net.planes]
        for plane, got in zip(net.planes, heard, strict=True):
            plane.tracing.on_record = _tapped(plane.tracing, got)  # type: ignore[method-assign]
        await traced(net, 0, near.routes, near.remote.public_key)
        await net.until(lambda: sum(len(body) == wire.ANSWER_SIZE for body in heard[0]) == ANSWERS)
        for got in heard[:-1]:
            assert sum(len(body) == wire.ANSWER_SIZE for body in got) == ANSWERS
        for got in heard:
            assert not any(bytes(key) in body for body in got for key in net.keys)


def _tapped(tracing: Tracing, got: list[bytes]) -> object:
    take = tracing.on_record

    def tapped(link: object, body: bytes) -> None:
        got.append(body)
        take(link, body)  # type: ignore[arg-type]

    return tapped


async def test_it_stops_where_the_rule_is_gone_and_says_so() -> None:
    async with Net(4, seed=112) as net:
        near, _ = await both(net, 4)
        (rule_id,) = [
            number
            for number, rule in net.planes[2].table.rules.items()
            if rule.from_transport in net.planes[1].router.links
        ]
        net.planes[2].table.drop([rule_id])
        trace = await traced(net, 0, near.routes, near.remote.public_key)
        last = trace.hops()[-1].answer
        assert (last.node, last.status, last.route_id) == (net.keys[2], Status.UNKNOWN_ROUTE, rule_id)


async def test_it_stops_at_a_link_that_is_down() -> None:
    async with Net(3, seed=113) as net:
        near, _ = await both(net, 3)
        rule = next(r for r in net.planes[1].table.rules.values() if r.from_transport in net.planes[0].router.links)
        del net.planes[1].router.links[rule.next_transport]
        trace = await traced(net, 0, near.routes, near.remote.public_key)
        last = trace.hops()[-1].answer
        assert (last.node, last.status) == (net.keys[1], Status.NO_LINK)


async def test_it_stops_at_home_when_the_loop_has_no_way_out() -> None:
    async with Net(2, seed=114) as net:
        near, _ = await both(net, 2)
        net.planes[0].table.drop([near.routes.forward_id])
        trace = await traced(net, 0, near.routes, near.remote.public_key)
        (hop,) = trace.hops()
        assert hop.answer.status is Status.UNKNOWN_ROUTE
        assert trace.finished


class Hop:
    """One node's tracing between two played neighbours; `a` sends, `b` is where the rule leads."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.a, self.b, self.c = Wire(), Wire(), Wire()
        self.secret = wire.SecretKey(self.random.randbytes(32))
        self.asker = wire.SecretKey(self.random.randbytes(32))
        self.table = RoutingTable(lambda transport: True)
        self.router = Router(self.table, lambda *_: None)
        self.router.links = {one.transport_id: one for one in (self.a, self.b, self.c)}
        self.now = 100.0
        self.has_loop = True
        self.tracing = Tracing(
            self.secret,
            self.table,
            self.router,
            has_loop=lambda _: self.has_loop,
            clock=lambda: self.now,
            draw=self.random.randbytes,
        )

    def place(self, *, app: bool = False) -> int:
        setup = self.random.randbytes(16)
        (route_id,) = self.table.reserve(setup, 1, self.now, lambda: self.random.getrandbits(32))
        expiry = int(EPOCH) + 7200
        remote = Addr(self.secret.public, 9)
        rule = AppRule(expiry, 5, remote, 8) if app else ForwardRule(expiry, 4711, self.b.transport_id)
        self.table.install(setup, [PlacedRule(route_id, rule, self.a.transport_id)], self.now, EPOCH)
        return route_id

    def ask(self, route_id: int, nonce: bytes = b"", link: Wire | None = None) -> Question:
        question = Question(route_id, nonce or self.random.randbytes(16), self.asker.public)
        self.tracing.on_record(link or self.a, question.encode())
        return question

    def read(self, question: Question) -> wire.Answer:
        """Return what the neighbour was answered first."""
        reading = wire.Reading(self.asker, question.nonce, [self.secret.public])
        sealed = wire.decode(self.a.records[0][1])
        assert isinstance(sealed, Sealed)
        said = reading.open(sealed)
        assert said is not None
        return said


def test_a_hop_answers_and_passes_the_question_on_under_the_next_id() -> None:
    hop = Hop(1)
    route_id = hop.place()
    hop.b.queued, hop.b.dropped = 1234, 5
    question = hop.ask(route_id)
    said = hop.read(question)
    assert (said.status, said.transport_in, said.transport_out) == (
        Status.PASSED_ON,
        hop.a.transport_id,
        hop.b.transport_id,
    )
    assert (said.queued, said.drops, said.route_id) == (1234, 5, route_id)
    assert hop.b.records == [(Kind.TRACE, question._replace(route_id=4711).encode())]
    assert not hop.table.rules[route_id].used, "a question commits no rule"


@pytest.mark.parametrize(
    ("status", "prepare"),
    [
        (Status.NO_LINK, lambda hop: hop.router.links.pop(hop.b.transport_id)),
        (Status.LINK_FULL, lambda hop: setattr(hop.b, "full", True)),
        (Status.EXPIRED_RULE, lambda hop: setattr(hop, "now", hop.now + 31)),
    ],
)
def test_where_it_stops_the_reason_and_covers_go_back(status: Status, prepare: object) -> None:
    hop = Hop(2)
    route_id = hop.place()
    prepare(hop)  # type: ignore[operator]
    assert hop.read(hop.ask(route_id)).status is status
    assert len(hop.a.records) == ANSWERS
    assert hop.b.records == []


def test_the_end_says_whether_a_loop_is_there() -> None:
    hop = Hop(3)
    assert hop.read(hop.ask(hop.place(app=True))).status is Status.ARRIVED
    hop = Hop(4)
    hop.has_loop = False
    assert hop.read(hop.ask(hop.place(app=True))).status is Status.NO_LOOP


def test_to_a_neighbour_that_has_no_business_with_a_rule_it_does_not_exist() -> None:
    hop = Hop(5)
    route_id = hop.place()
    hop.ask(route_id, link=hop.c)
    hop.a = hop.c
    question = Question(route_id, wire.decode(hop.c.records[0][1]).nonce, hop.asker.public)
    said = hop.read(question)
    assert (said.status, said.packets, said.transport_out) == (Status.UNKNOWN_ROUTE, 0, wire.NOWHERE)


def test_questions_of_one_link_are_bounded() -> None:
    hop = Hop(6)
    route_id = hop.place()
    for _ in range(QUESTIONS_PER_SECOND + 3):
        hop.ask(route_id)
    assert len(hop.b.records) == QUESTIONS_PER_SECOND
    assert hop.tracing.ignored["over the rate"] == 3
    hop.tracing.tick(hop.now)
    hop.ask(route_id)
    assert len(hop.b.records) == QUESTIONS_PER_SECOND + 1


def test_pending_questions_are_bounded_and_forgotten() -> None:
    hop = Hop(7)
    route_id = hop.place()
    for _ in range(MAX_PENDING + 2):
        hop.ask(route_id)
        hop.tracing.tick(hop.now)
    assert hop.tracing.pending == MAX_PENDING
    assert hop.tracing.ignored["too many at once"] == 2
    hop.tracing.tick(hop.now + PENDING_SECONDS)
    assert hop.tracing.pending == 0


def test_a_question_heard_again_is_not_answered_again() -> None:
    hop = Hop(8)
    question = hop.ask(hop.place())
    hop.tracing.on_record(hop.a, question.encode())
    hop.tracing.on_record(hop.c, question.encode())
    assert hop.tracing.ignored["asked before"] == 2
    assert (len(hop.a.records), len(hop.b.records), len(hop.c.records)) == (1, 1, 0)


def test_answers_passed_back_are_bounded_and_come_from_where_the_question_went() -> None:
    hop = Hop(9)
    question = hop.ask(hop.place())
    answer = Sealed(question.nonce, hop.random.randbytes(wire.ANSWER_SIZE - 17)).encode()
    hop.tracing.on_record(hop.c, answer)
    hop.tracing.on_record(hop.b, Sealed(bytes(16), answer[17:]).encode())
    assert hop.tracing.ignored == {"by another link": 1, "answer without a question": 1}
    for _ in range(ANSWERS + 5):
        hop.tracing.on_record(hop.b, answer)
    assert len(hop.a.records) == ANSWERS, "its own and the first of the others"
    assert hop.tracing.ignored["beyond the count"] == 5


def test_forged_and_repeated_answers_are_ignored_and_counted() -> None:
    hop = Hop(10)
    setup = hop.random.randbytes(16)
    (route_id,) = hop.table.reserve(setup, 1, hop.now, lambda: 77)
    rule = ForwardRule(int(EPOCH) + 7200, 4711, hop.b.transport_id)
    hop.table.install(setup, [PlacedRule(route_id, rule, None)], hop.now, EPOCH)
    done: list[bool] = []
    other = wire.SecretKey(hop.random.randbytes(32))
    trace = hop.tracing.begin(route_id, [other.public], lambda: done.append(True))
    ((_, body),) = hop.b.records
    question = wire.decode(body)
    assert isinstance(question, Question)
    said = wire.Answer(other.public, 4711, Status.ARRIVED, hop.b.transport_id, wire.NOWHERE)
    stranger = wire.SecretKey(hop.random.randbytes(32))
    hop.tracing.on_record(hop.b, wire.seal(said, question, stranger, bytes(16)).encode())
    true = wire.seal(said, question, other, bytes(16)).encode()
    hop.tracing.on_record(hop.c, true)
    assert not trace.finished
    hop.tracing.on_record(hop.b, true)
    hop.tracing.on_record(hop.b, true)
    assert done == [True]
    assert trace.forged == 2
    assert hop.tracing.ignored == {"malformed, forged or repeated": 2, "by another link": 1}
    hop.tracing.end(trace)
    hop.tracing.on_record(hop.b, true)
    assert hop.tracing.ignored["answer without a question"] == 1


def test_traces_of_this_node_are_bounded() -> None:
    hop = Hop(11)
    begun = [hop.tracing.begin(1, [], lambda: None) for _ in range(MAX_TRACES)]
    with pytest.raises(Failure) as caught:
        hop.tracing.begin(1, [], lambda: None)
    assert caught.value.code is ErrorCode.LIMIT_REACHED
    hop.tracing.end(begun[0])
    hop.tracing.begin(1, [], lambda: None)


def test_any_bytes_change_nothing_but_a_count() -> None:
    hop = Hop(12)
    for size in range(260):
        hop.tracing.on_record(hop.a, hop.random.randbytes(size))
    hop.tracing.on_record(hop.a, bytes((0,)) + bytes(wire.QUESTION_SIZE - 1))
    assert hop.a.records == []
    assert hop.tracing.pending == 0
