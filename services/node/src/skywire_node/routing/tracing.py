"""Traces over the live rules of loops: asked by this node about its own routes, answered and passed on for others.

Theory of operation. A question follows the rules like a packet, in a record of its own; it commits no rule. Each hop
answers to the link that it came from, and passes back what comes from behind: `skywire_common.trace` says what an
answer holds and how it is sealed. A hop keeps, for PENDING_SECONDS, which link a nonce came from and which it left by;
answers are heard from that link only, and no more of them than one question is worth. What a stranger makes this node
hold or send is bounded by QUESTIONS_PER_SECOND for each link, MAX_PENDING, and ANSWERS for each question.

To a neighbour that has no business with a rule, the rule does not exist. What does not fit is ignored and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple
from uuid import UUID

from skywire_common import trace
from skywire_common.curve import SecretKey
from skywire_common.errors import DecodeError, ErrorCode, Failure, FailureFields
from skywire_common.keys import PublicKey
from skywire_common.rules import APP_TYPE
from skywire_common.trace import ANSWERS, NOWHERE, Answer, Question, Reading, Sealed, Status

from skywire_node.link.records import Kind
from skywire_node.routing.router import Outlet, Router
from skywire_node.routing.table import RoutingTable

QUESTIONS_PER_SECOND = 5  # of one link
MAX_PENDING = 256  # questions that were passed on
PENDING_SECONDS = 10.0
MAX_TRACES = 16  # of this node's own, at once


class TracedHop(NamedTuple):
    """One answer as the asker sees it; round_trip: seconds from the question to it, by the asker's clock."""

    answer: Answer
    round_trip: float


class _Pending(NamedTuple):
    back: Outlet
    out: UUID
    until: float


class Trace:
    """One trace of this node's own. `done` is called once, when some hop has said that the question stops there."""

    def __init__(self, reading: Reading, own: Answer, began: float, done: Callable[[], None]) -> None:
        self.reading = reading
        self.own = own
        self.began = began
        self.finished = False
        self.forged = 0
        self._heard: list[TracedHop] = []
        self._done = done
        self._check()

    def hops(self) -> list[TracedHop]:
        """Return this node, then the hops in the order of the route, as far as one's exit is the next one's entry."""
        chain = [TracedHop(self.own, 0.0)]
        left = {hop.answer.transport_in: hop for hop in self._heard}
        while chain[-1].answer.status is Status.PASSED_ON:
            following = left.pop(chain[-1].answer.transport_out, None)
            if following is None:
                break
            chain.append(following)
        return chain

    def hear(self, sealed: Sealed, now: float) -> None:
        """Take one answer; raises DecodeError if it is none of this trace's hops'."""
        answer = self.reading.open(sealed)
        if answer is not None:
            self._heard.append(TracedHop(answer, now - self.began))
            self._check()

    def _check(self) -> None:
        if not self.finished and self.hops()[-1].answer.status is not Status.PASSED_ON:
            self.finished = True
            self._done()


class Tracing:
    """The traces of one node."""

    def __init__(
        self,
        secret: SecretKey,
        table: RoutingTable,
        router: Router,
        *,
        has_loop: Callable[[int], bool],
        clock: Callable[[], float],
        draw: Callable[[int], bytes],
    ) -> None:
        """`has_loop` says whether a loop takes the packets of an app rule; `draw` returns so many random bytes."""
        self.ignored: Counter[str] = Counter()
        self._secret = secret
        self._table = table
        self._router = router
        self._has_loop = has_loop
        self._clock = clock
        self._draw = draw
        self._traces: dict[bytes, Trace] = {}
        self._pending: dict[bytes, _Pending] = {}
        self._left: dict[bytes, int] = {}  # answers that may still come for what is pending
        self._asked: Counter[UUID] = Counter()

    # -- this node's own

    def begin(self, forward_id: int, nodes: Iterable[PublicKey], done: Callable[[], None]) -> Trace:
        """Ask the hops of a route of this node's own, which are among `nodes`; `end` it. Raises Failure."""
        if len(self._traces) >= MAX_TRACES:
            raise Failure(ErrorCode.LIMIT_REACHED, f"{MAX_TRACES} traces", FailureFields(limit="traces"))
        now = self._clock()
        nonce = self._draw(trace.NONCE_SIZE)
        reading = Reading(self._draw_key(), nonce, nodes)
        own, following, next_id = self._decide(forward_id, None, now)
        begun = self._traces[nonce] = Trace(reading, own, now, done)
        if following is not None:
            following.record(Kind.TRACE, reading.question._replace(route_id=next_id).encode())
        return begun

    def end(self, begun: Trace) -> None:
        """Forget a trace; what still comes for it is ignored."""
        self._traces.pop(begun.reading.question.nonce, None)

    def _draw_key(self) -> SecretKey:
        while True:
            try:
                return SecretKey(self._draw(32))
            except DecodeError:  # one draw in 2^128
                continue

    # -- everybody's

    def on_record(self, link: Outlet, body: bytes) -> None:
        """Take one trace record of a link."""
        now = self._clock()
        try:
            record = trace.decode(body)
            if isinstance(record, Question):
                self._question(link, record, now)
            else:
                self._answer(link, record, now)
        except DecodeError:
            self.ignored["malformed, forged or repeated"] += 1

    def tick(self, now: float) -> None:
        """Once a second: hear every link again, forget what nobody answered."""
        self._asked.clear()
        for nonce in [nonce for nonce, pending in self._pending.items() if pending.until <= now]:
            del self._pending[nonce], self._left[nonce]

    @property
    def pending(self) -> int:
        """Questions whose answers would be passed on."""
        return len(self._pending)

    def _question(self, link: Outlet, question: Question, now: float) -> None:
        self._asked[link.transport_id] += 1
        if self._asked[link.transport_id] > QUESTIONS_PER_SECOND:
            self.ignored["over the rate"] += 1
            return
        if question.nonce in self._pending or question.nonce in self._traces:
            self.ignored["asked before"] += 1
            return
        if len(self._pending) >= MAX_PENDING:
            self.ignored["too many at once"] += 1
            return
        answer, following, next_id = self._decide(question.route_id, link.transport_id, now)
        seed = trace.NO_SEED if following is not None else self._draw(trace.SEED_SIZE)
        salt = self._draw(trace.SALT_SIZE)
        # Sealing checks the asker's key, so it comes before anything is kept or sent.
        held = self._clock() - now
        sealed = trace.seal(answer._replace(held=held, seed=seed), question, self._secret, salt)
        # What stops here is remembered too: a question heard twice is answered once.
        self._pending[question.nonce] = _Pending(link, answer.transport_out, now + PENDING_SECONDS)
        self._left[question.nonce] = ANSWERS - 1 if following is not None else 0
        if following is not None:
            following.record(Kind.TRACE, question._replace(route_id=next_id).encode())
        link.record(Kind.TRACE, sealed.encode())
        if following is None:
            for cover in trace.covers(question.nonce, seed, ANSWERS - 1):
                link.record(Kind.TRACE, cover.encode())

    def _decide(self, route_id: int, incoming: UUID | None, now: float) -> tuple[Answer, Outlet | None, int]:
        """Return what to answer, and where the question goes on under which id, if it does."""
        entered = incoming or NOWHERE
        rule = self._table.rules.get(route_id)
        if rule is None or rule.from_transport != incoming:
            return Answer(self._secret.public, route_id, Status.UNKNOWN_ROUTE, entered, NOWHERE), None, 0
        out = rule.next_transport
        following = self._router.links.get(out) if out is not None else None
        if rule.lapses <= now:
            status = Status.EXPIRED_RULE
        elif rule.kind == APP_TYPE:
            status = Status.ARRIVED if self._has_loop(route_id) else Status.NO_LOOP
        elif following is None:
            status = Status.NO_LINK
        else:
            status = Status.LINK_FULL if following.full else Status.PASSED_ON
        answer = Answer(
            self._secret.public,
            route_id,
            status,
            entered,
            out or NOWHERE,
            queued=following.queued if following is not None else 0,
            drops=following.dropped if following is not None else 0,
            packets=rule.packets,
            idle=now - rule.used if rule.used else 0.0,
        )
        return answer, following if status is Status.PASSED_ON else None, rule.next_id

    def _answer(self, link: Outlet, sealed: Sealed, now: float) -> None:
        own = self._traces.get(sealed.nonce)
        if own is not None:
            if link.transport_id != own.own.transport_out:
                self.ignored["by another link"] += 1
                return
            try:
                own.hear(sealed, now)
            except DecodeError:
                own.forged += 1
                raise
            return
        pending = self._pending.get(sealed.nonce)
        if pending is None:
            self.ignored["answer without a question"] += 1
        elif pending.out != link.transport_id:
            self.ignored["by another link"] += 1
        elif (left := self._left[sealed.nonce]) < 0:
            self.ignored["beyond the count"] += 1
        else:
            self._left[sealed.nonce] = left - 1
            if left:  # this hop's own answer has taken the place of the last one
                pending.back.record(Kind.TRACE, sealed.encode())
