"""The routing table against a slow twin that keeps plain lists and looks at all of them each time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from skywire_common.errors import Failure
from skywire_common.rules import ForwardRule, PlacedRule, Rule
from skywire_node.routing.table import RESERVATION_SECONDS, UNUSED_SECONDS, RoutingTable

OWNERS = [b"", b"\x02" * 33, b"\x03" * 33]
SETUPS = [bytes([n]) * 16 for n in range(4)]
EDGES, STRANGER = bytes(range(32)), bytes(16)
KNOWN = [UUID(int=n) for n in range(1, 4)]
STRANGE = UUID(int=99)
MAX_RULES, MAX_RESERVED, MAX_PER_OWNER, IDLE = 10, 12, 8, 100.0


@dataclass
class Lease:
    """What the twin knows of one id."""

    owner: bytes
    setup: bytes
    ends: float
    rule: Rule | None = None
    source: UUID | None = None
    expires: float = 0.0
    used: float = 0.0
    packets: int = 0

    def over(self, now: float) -> bool:
        idle = self.rule is not None and self.used > 0 and self.used + IDLE <= now
        return self.ends <= now or idle


class TwinTables(RuleBasedStateMachine):
    """Every call goes to both; afterwards both hold the same."""

    @initialize(seed=st.integers(0, 1 << 30))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1.0 + self.random.random() * 1000
        self.epoch = 1_700_000_000.0
        self.table = RoutingTable(
            KNOWN.__contains__,
            max_rules=MAX_RULES,
            max_reserved=MAX_RESERVED,
            max_reserved_per_owner=MAX_PER_OWNER,
            idle_limit=IDLE,
        )
        self.twin: dict[int, Lease] = {}
        self.given: dict[tuple[bytes, bytes], list[int]] = {}

    def held(self, owner: bytes, setup: bytes) -> list[int]:
        return [n for n, lease in self.twin.items() if (lease.owner, lease.setup) == (owner, setup)]

    def sweep(self) -> set[int]:
        """Both tables forget what is over; a set-up whose leases are all gone is forgotten whole."""
        gone = {n for n, lease in self.twin.items() if lease.over(self.now) and lease.rule is not None}
        self.twin = {n: lease for n, lease in self.twin.items() if not lease.over(self.now)}
        return gone

    @rule(owner=st.sampled_from(OWNERS), setup=st.sampled_from(SETUPS), count=st.integers(0, 5), narrow=st.booleans())
    def reserve(self, owner: bytes, setup: bytes, count: int, narrow: bool) -> None:
        held = self.held(owner, setup)
        given = self.given.get((owner, setup), []) if held else []
        draw = (lambda: self.random.randrange(40)) if narrow else (lambda: self.random.getrandbits(32))
        try:
            ids = self.table.reserve(setup, count, self.now, draw, owner=owner)
        except Failure:
            total = [lease for lease in self.twin.values() if lease.rule is None]
            mine = [lease for lease in total if lease.owner == owner]
            wrong = count == 0 or (held and (len(given) != count or set(held) != set(given)))
            full = len(total) + count > MAX_RESERVED or len(mine) + count > MAX_PER_OWNER
            assert wrong or full
            return
        if held:
            assert ids == given
            return
        assert len(set(ids)) == count
        assert not set(ids) & set(self.twin)
        assert all(0 < n < 1 << 32 for n in ids)
        for n in ids:
            self.twin[n] = Lease(owner, setup, self.now + RESERVATION_SECONDS)
        self.given[owner, setup] = ids

    @rule(
        owner=st.sampled_from(OWNERS),
        setup=st.sampled_from(SETUPS),
        picks=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 3), st.integers(-5, 200)), min_size=1, max_size=3),
        over=st.sampled_from([*KNOWN, STRANGE]),
        source=st.sampled_from([*KNOWN, STRANGE, None]),
        own=st.booleans(),
    )
    def install(
        self,
        owner: bytes,
        setup: bytes,
        picks: list[tuple[int, int, int]],
        over: UUID,
        source: UUID | None,
        own: bool,
    ) -> None:
        ids = sorted(self.held(owner, setup) if own else self.twin)
        batch = [
            PlacedRule(ids[at % len(ids)] if ids else at, ForwardRule(int(self.epoch) + life, following, over), source)
            for at, following, life in picks
        ]
        try:
            self.table.install(setup, batch, self.now, self.epoch, owner=owner, edges=EDGES)
            done = True
        except Failure:
            done = False
        assert done == self.allowed(owner, setup, batch)
        for placed in batch if done else ():
            lease = self.twin[placed.route_id]
            if lease.rule is None:
                lease.rule, lease.source = placed.rule, source
                lease.expires = self.now + (placed.rule.expiry - self.epoch)
                lease.ends = min(lease.expires, self.now + UNUSED_SECONDS)

    def allowed(self, owner: bytes, setup: bytes, batch: list[PlacedRule]) -> bool:
        new = 0
        for placed in batch:
            lease = self.twin.get(placed.route_id)
            if lease is None or (lease.owner, lease.setup) != (owner, setup):
                return False
            if lease.rule is not None:
                if (lease.rule._replace(expiry=0), lease.source) != (
                    placed.rule._replace(expiry=0),
                    placed.from_transport,
                ):
                    return False
                continue
            new += 1
            assert isinstance(placed.rule, ForwardRule)
            transports = {placed.rule.next_transport, placed.from_transport} - {None}
            if placed.rule.expiry <= self.epoch or not transports <= set(KNOWN):
                return False
        rules = sum(lease.rule is not None for lease in self.twin.values())
        return len({placed.route_id for placed in batch}) == len(batch) and rules + new <= MAX_RULES

    @rule(at=st.integers(0, 30), size=st.integers(0, 70_000))
    def packet(self, at: int, size: int) -> None:
        rules = sorted(self.table.rules)
        if rules:
            n = rules[at % len(rules)]
            self.table.touch(n, self.table.rules[n], self.now, size)
            lease = self.twin[n]
            if not lease.used:
                lease.ends = lease.expires
            lease.used = self.now
            lease.packets += 1

    def heard(self, setup: bytes, ids: list[int], edge: bytes) -> bool:
        """Say whether who asks is an edge of every rule of the set-up among these."""
        return edge != STRANGER or not self.rules_of(setup, ids)

    def rules_of(self, setup: bytes, ids: list[int]) -> set[int]:
        found = {n: lease for n in ids if (lease := self.twin.get(n)) is not None and lease.setup == setup}
        return {n for n, lease in found.items() if lease.rule is not None}

    @rule(
        setup=st.sampled_from(SETUPS),
        ids=st.lists(st.integers(0, 40), max_size=3),
        life=st.integers(-10, 300),
        edge=st.sampled_from([EDGES[:16], EDGES[16:], STRANGER]),
    )
    def renew(self, setup: bytes, ids: list[int], life: int, edge: bytes) -> None:
        live = sorted(self.twin)
        ids = [live[n % len(live)] if live else n for n in ids]
        expiry = int(self.epoch) + life
        try:
            missing = self.table.renew(setup, ids, expiry, self.now, self.epoch, edge=edge)
        except Failure:
            assert expiry <= self.epoch or not self.heard(setup, ids, edge)
            return
        assert self.heard(setup, ids, edge)
        for n in ids:
            lease = self.twin.get(n)
            found = lease is not None and lease.setup == setup and lease.rule is not None
            assert (n in missing) != found
            if found:
                assert lease is not None
                assert lease.rule is not None
                if expiry > lease.rule.expiry:
                    lease.rule = lease.rule._replace(expiry=expiry)
                    lease.expires = self.now + (expiry - self.epoch)
                if lease.used:
                    lease.ends = lease.expires

    @rule(owner=st.sampled_from(OWNERS), setup=st.sampled_from(SETUPS))
    def undo(self, owner: bytes, setup: bytes) -> None:
        self.went(set(self.held(owner, setup)), {n for n, _ in self.table.undo(setup, owner=owner)})

    @rule(
        setup=st.sampled_from(SETUPS),
        ids=st.lists(st.integers(0, 40), max_size=5),
        edge=st.sampled_from([EDGES[:16], EDGES[16:], STRANGER]),
    )
    def remove(self, setup: bytes, ids: list[int], edge: bytes) -> None:
        live = sorted(self.twin)
        ids = [live[n % len(live)] if live else n for n in ids]
        try:
            removed = {n for n, _ in self.table.remove(setup, ids, edge=edge)}
        except Failure:
            assert not self.heard(setup, ids, edge)
            return
        assert self.heard(setup, ids, edge)
        self.went(self.rules_of(setup, ids), removed)

    def went(self, going: set[int], removed: set[int]) -> None:
        assert removed == {n for n in going if self.twin[n].rule is not None}
        for n in going:
            del self.twin[n]

    @rule(ids=st.lists(st.integers(0, 40), max_size=4))
    def drop(self, ids: list[int]) -> None:
        live = sorted(self.twin)
        ids = [live[n % len(live)] if live else n for n in ids]
        going = {n for n in ids if n in self.twin and self.twin[n].rule is not None}
        assert {n for n, _ in self.table.drop(ids)} == going
        for n in going:
            del self.twin[n]

    @rule(seconds=st.sampled_from([0.5, 7.0, 29.0, 30.0, 31.0, 150.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.epoch += seconds
        upcoming = self.table.next_expiry
        gone = self.sweep()
        assert {n for n, _ in self.table.expire(self.now)} == gone
        assert not gone or (upcoming is not None and upcoming <= self.now)
        assert self.table.orphaned(self.now) == 0

    @rule()
    def restart(self) -> None:
        kept = [row for n in self.table.rules if (row := self.table.keep(n, self.now, self.epoch)) is not None]
        fresh = RoutingTable(KNOWN.__contains__, max_rules=MAX_RULES, idle_limit=IDLE)
        count = fresh.restore(kept, self.now, self.epoch)
        expected = {n for n, lease in self.twin.items() if lease.rule is not None and lease.source is not None}
        assert set(fresh.rules) == expected
        assert count == len(expected)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "table"):
            return
        rules = {n: lease for n, lease in self.twin.items() if lease.rule is not None}
        assert set(self.table.rules) == set(rules)
        assert self.table.reserved == len(self.twin) - len(rules)
        for n, lease in rules.items():
            installed = self.table.rules[n]
            assert installed.rule == lease.rule
            assert installed.from_transport == lease.source
            assert installed.packets == lease.packets
            assert (installed.owner, installed.setup_id) == (lease.owner, lease.setup)
            assert abs(installed.lapses - lease.ends) < 1e-6
            if isinstance(installed.rule, ForwardRule):
                assert n in self.table.pointing.to(installed.rule.next_transport, installed.rule.next_id)
        for link in KNOWN:
            leaving = [n for n, one in self.table.rules.items() if one.next_transport == link]
            ending = [n for n, one in self.table.rules.items() if not one.next_transport and one.from_transport == link]
            assert sorted(self.table.pointing.by(link)) == sorted(leaving)
            assert sorted(self.table.pointing.ending(link)) == sorted(ending)
        if self.twin:
            assert self.table.next_expiry is not None


TwinTables.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTwinTables = TwinTables.TestCase
