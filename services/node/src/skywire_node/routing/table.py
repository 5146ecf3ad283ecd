"""The routing table: which packets this node accepts, from where, and what becomes of them.

The layout of a rule stands in docs/wire-format.md, Routing rules.

Theory of operation. A set-up first reserves route ids, then installs rules under them. Both are leases:

    reserve ──30 s──▶ gone          install ──30 s without a packet──▶ gone
       └─install─▶ rule (unused) ─commit▶ rule (used) ──expiry, or idle limit──▶ gone
                        └──────renew: expiry moves on──────┘
    restore ──60 s without a packet──▶ gone; else as above

What one set-up holds here is one `Setup`, kept under `owner key ‖ set-up id`: two setup nodes that serve the same
set-up one after the other never undo each other's work. The schedule orders set-ups by the earliest instant at
which any of their leases may end; using and renewing only ever move that instant later, so neither touches it.

The router reads `rules` directly, compares `from_transport` and `lapses`, and counts; it calls `commit` for the
first packet of a rule only. Nothing here reads a clock or draws a number: `now` is monotonic seconds, `epoch_now`
epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf
from uuid import UUID
from weakref import WeakValueDictionary

from skywire_common.edge_tags import is_edge
from skywire_common.errors import ErrorCode, Failure, FailureFields
from skywire_common.rules import APP_TYPE, ForwardRule, PlacedRule

from skywire_node.routing.admission import MAX_TIME_AHEAD, Admission, check_expiry
from skywire_node.routing.leases import SETUP_ID_SIZE, Installed, Kept, Setup
from skywire_node.routing.pointing import Pointing
from skywire_node.routing.reservations import MAX_RESERVED, MAX_RESERVED_PER_OWNER, Reservations, limit_reached
from skywire_node.routing.schedule import Schedule

RESERVATION_SECONDS = 30.0
UNUSED_SECONDS = 30.0
# Loops ping through all hops every 30 s, and one whose way was lost tries for as long as this by default.
RESTORED_SECONDS = 60.0
MAX_IDS_PER_SETUP = 16
MAX_RULES = 200_000
# Rules that one sweep removes, and set-ups that it looks at: some 10 µs each, in which no packet is forwarded.
MAX_EXPIRED_AT_ONCE = 1_000
MAX_LOOKED_AT_ONCE = 1_000
# A lapsed rule that is still here after this has been forgotten by the sweep.
ORPHANED_AFTER = 2.0

Removed = list[tuple[int, Installed]]


class RoutingTable:
    """Rules by route id, all leases.

    `idle_limit` (seconds, None: off) ends used rules that no packet used for so long. Every call is one synchronous
    step: all of it happens or none.
    """

    def __init__(
        self,
        known: Callable[[UUID], bool],
        *,
        max_rules: int = MAX_RULES,
        max_reserved: int = MAX_RESERVED,
        max_reserved_per_owner: int = MAX_RESERVED_PER_OWNER,
        idle_limit: float | None = None,
        private: Callable[[UUID], bool] = lambda _: False,
    ) -> None:
        """`known` says whether the node has a transport, `private` whether it is for its two ends' own loops alone."""
        self.rules: dict[int, Installed] = {}
        self.pointing = Pointing()
        self.refused = 0  # renewals and removals by those who are no edge of the loop
        self.idle_limit = idle_limit
        self._admission = Admission(known, private)
        self._max_rules = max_rules
        self._setups: dict[bytes, Setup] = {}
        self._reserved = Reservations(max_reserved, max_reserved_per_owner)
        self._schedule = Schedule(self._setups)
        self._changed: set[int] | None = set()
        # A node has few transports and many rules: one object per transport, gone with its last rule.
        self._uuids: WeakValueDictionary[int, UUID] = WeakValueDictionary()

    @property
    def reserved(self) -> int:
        """How many ids are reserved without rules."""
        return len(self._reserved)

    @property
    def next_expiry(self) -> float | None:
        """When `expire` has something to look at, monotonic seconds; None if never."""
        return self._schedule.next_due

    def reserve(
        self, setup_id: bytes, count: int, now: float, draw: Callable[[], int], *, owner: bytes = b""
    ) -> list[int]:
        """Set `count` route ids aside for 30 s; asked again, the same set-up gets the same ids.

        `draw` returns random numbers of 32 bits. `owner` is the setup node's key, empty for this node itself.
        Raises Failure (INVALID_ARGUMENT, CONFLICT, LIMIT_REACHED).
        """
        if len(setup_id) != SETUP_ID_SIZE or not 1 <= count <= MAX_IDS_PER_SETUP:
            raise Failure(ErrorCode.INVALID_ARGUMENT, f"a set-up reserves 1 to {MAX_IDS_PER_SETUP} ids, not {count}")
        key = owner + setup_id
        setup = self._setups.get(key)
        if setup is not None and self._lapsed(setup, now):
            self._remove(setup.given, setup)
            setup = None
        if setup is not None:
            if len(setup.given) != count or any(self._holder(route_id) is not setup for route_id in setup.given):
                raise Failure(ErrorCode.CONFLICT, f"this set-up was given {len(setup.given)} other ids before")
            return list(setup.given)
        ids = self._reserved.draw(count, owner, draw, self.rules)
        setup = self._setups[key] = Setup(key, tuple(ids), now + RESERVATION_SECONDS)
        self._reserved.hold(setup)
        self._schedule.add(setup)
        return ids

    def install(
        self,
        setup_id: bytes,
        rules: Sequence[PlacedRule],
        now: float,
        epoch_now: float,
        *,
        owner: bytes = b"",
        edges: bytes = b"",
    ) -> None:
        """Install rules under ids that this set-up reserved, all or none; again is no error.

        `edges` are the tags of those who may have them renewed and removed by their ids. An unused rule lapses after
        30 s. Raises Failure (CONFLICT, ALREADY_EXISTS, UNKNOWN_TRANSPORT, PERMISSION_DENIED, INVALID_ARGUMENT,
        LIMIT_REACHED); then nothing has changed.
        """
        setup = self._setups.get(owner + setup_id)
        new: list[PlacedRule] = []
        seen: set[int] = set()
        for placed in rules:
            if placed.route_id in seen:
                raise Failure(ErrorCode.INVALID_ARGUMENT, f"route id {placed.route_id} stands twice in one batch")
            seen.add(placed.route_id)
            live = self.rules.get(placed.route_id)
            if live is None:
                if setup is None or self._reserved.of(placed.route_id) is not setup or setup.reserved_until <= now:
                    text = f"route id {placed.route_id} is not reserved (any more) by this set-up"
                    raise Failure(ErrorCode.CONFLICT, text)
                self._admission.check(placed, epoch_now)
                new.append(placed)
            elif live.setup is not setup:
                raise Failure(ErrorCode.ALREADY_EXISTS, f"route id {placed.route_id} is live")
            elif not live.same(placed.rule, placed.from_transport):
                raise Failure(ErrorCode.CONFLICT, f"route id {placed.route_id} has another rule of this set-up")
        if len(self.rules) + len(new) > self._max_rules:
            raise limit_reached("rules", self._max_rules)
        if setup is None or not new:
            return
        setup.edges = edges
        lapses = now + UNUSED_SECONDS
        # The rules of a batch expire together: they share the numbers.
        expiry, expires, soonest = 0, 0.0, inf
        for placed in new:
            self._reserved.release(placed.route_id)
            if placed.rule.expiry != expiry:
                expiry = placed.rule.expiry
                expires = now + (expiry - epoch_now)
            installed = self._place(placed, setup, expires)
            installed.expiry = expiry
            installed.lapses = min(lapses, expires)
            soonest = min(soonest, installed.lapses)
        # Only rules that expire before their reservation would have: nobody asks for such.
        self._schedule.hasten(setup, soonest)

    def commit(self, route_id: int, rule: Installed, now: float) -> None:
        """Note that a packet used the rule: from the first one on it lives to its expiry.

        The router calls it while `rule.used` is 0.0, sets `used` by itself from then on, and counts.
        """
        if not rule.used:
            rule.lapses = rule.expires
            self._note(route_id)
        rule.used = now

    def touch(self, route_id: int, rule: Installed, now: float, size: int) -> None:
        """Note and count a packet of `size` bytes."""
        self.commit(route_id, rule, now)
        rule.packets += 1
        rule.bytes += size

    def renew(
        self, setup_id: bytes, ids: Sequence[int], expiry: int, now: float, epoch_now: float, *, edge: bytes | None
    ) -> list[int]:
        """Move the expiry of a set-up's rules on, never back; return the ids that are not (any more) here.

        One that no packet has used yet lapses all the same: to ask for a route is not to use it.

        `edge` is the tag of the edge that asks, None: this node itself. Raises Failure, and nothing has changed:
        INVALID_ARGUMENT if the expiry is over or too far away, PERMISSION_DENIED if it is no edge of one of the rules.
        """
        check_expiry(expiry, epoch_now)
        self._check_edge(setup_id, ids, edge)
        missing = []
        expires = now + (expiry - epoch_now)
        for route_id in ids:
            rule = self.rules.get(route_id)
            if rule is None or rule.setup_id != setup_id or rule.lapses <= now:
                missing.append(route_id)
                continue
            if expiry > rule.expiry:
                rule.expiry, rule.expires = expiry, expires
            if rule.used:
                rule.lapses = rule.expires
            self._note(route_id)
        return missing

    def undo(self, setup_id: bytes, *, owner: bytes = b"") -> Removed:
        """Remove everything that this owner holds for the set-up; return the rules that went."""
        setup = self._setups.get(owner + setup_id)
        return self._remove(setup.given, setup) if setup is not None else []

    def remove(self, setup_id: bytes, ids: Sequence[int], *, edge: bytes) -> Removed:
        """Remove rules of a set-up for one of its loop's edges, whoever installed them; return those that went.

        What is gone already is no error. Raises Failure (PERMISSION_DENIED) if `edge`, the tag of who asks, is no
        edge of one of the rules; then nothing has changed.
        """
        self._check_edge(setup_id, ids, edge)
        removed = []
        for route_id in ids:
            rule = self.rules.get(route_id)
            if rule is not None and rule.setup_id == setup_id:
                removed += self._remove((route_id,), rule.setup)
        return removed

    def drop(self, ids: Iterable[int]) -> Removed:
        """Remove these rules, whatever their set-up: the owner of the node wants it, or a teardown passed."""
        removed = []
        for route_id in ids:
            rule = self.rules.get(route_id)
            if rule is not None:
                removed += self._remove((route_id,), rule.setup)
        return removed

    def expire(self, now: float) -> Removed:
        """Remove what has lapsed by `now`, at most about 1,000 rules at once; `next_expiry` says when to call again."""
        removed: Removed = []
        looked = 0
        while len(removed) < MAX_EXPIRED_AT_ONCE and looked < MAX_LOOKED_AT_ONCE:
            setup = self._schedule.pop(now)
            if setup is None:
                break
            looked += 1
            if not self._schedule.holds(setup):
                continue
            dead = [
                route_id
                for route_id in setup.given
                if (dies := self._dies(route_id, setup)) is not None and dies <= now
            ]
            removed += self._remove(dead, setup)
            if self._schedule.holds(setup):
                setup.due = min(dies for route_id in setup.given if (dies := self._dies(route_id, setup)) is not None)
                self._schedule.add(setup)
        return removed

    def orphaned(self, now: float) -> int:
        """Count rules that no packet ever used and that outlived their lease: 0 unless the sweep has stopped."""
        late = now - ORPHANED_AFTER
        count = 0
        for setup in self._schedule.overdue(late):
            for route_id in setup.given:
                rule = self.rules.get(route_id)
                if rule is not None and rule.setup is setup and not rule.used and rule.lapses <= late:
                    count += 1
        return count

    def take_changed(self) -> set[int] | None:
        """Return the ids whose lease began, moved or ended since the last call, for whoever keeps them on disk.

        None: so many that they are no longer listed; everything has to be kept anew.
        """
        changed, self._changed = self._changed, set()
        return changed

    def note_all(self) -> None:
        """Have `take_changed` say None next: what it listed last could not be kept."""
        self._changed = None

    def keep(self, route_id: int, now: float, epoch_now: float) -> Kept | None:
        """Return what of a rule survives a restart; None if it is gone or belongs to this node's own loops.

        Loops live in memory, so the rules at their ends die with the process.
        """
        rule = self.rules.get(route_id)
        if rule is None or rule.kind == APP_TYPE or rule.from_transport is None:
            return None
        lapses = epoch_now + (rule.lapses - now)
        return Kept(
            route_id,
            rule.owner,
            rule.setup_id,
            rule.setup.edges,
            rule.rule,
            rule.from_transport,
            lapses,
            rule.packets,
            rule.bytes,
        )

    def restore(self, kept: Iterable[Kept], now: float, epoch_now: float) -> int:
        """Take back, into an empty table, what was kept and has not lapsed; return how many rules that is.

        Each has to be used again within RESTORED_SECONDS: its loop may have ended meanwhile and told nobody here.
        """
        unused = now + min(RESTORED_SECONDS, self.idle_limit or inf)
        left_out = set()
        for row in kept:
            if row.lapses <= epoch_now or row.route_id in self.rules or len(self.rules) >= self._max_rules:
                left_out.add(row.route_id)
                continue
            key = row.owner + row.setup_id
            setup = self._setups.get(key)
            if setup is None:
                setup = self._setups[key] = Setup(key, (), now)
                setup.due = inf
                setup.edges = row.edges
            setup.given += (row.route_id,)
            lapses = now + (row.lapses - epoch_now)
            expires = now + min(row.rule.expiry - epoch_now, MAX_TIME_AHEAD)
            rule = self._place(PlacedRule(row.route_id, row.rule, row.from_transport), setup, expires)
            rule.lapses = min(lapses, expires, unused)
            rule.packets, rule.bytes = row.packets, row.bytes
            setup.due = min(setup.due, self._dies(row.route_id, setup) or now)
        self._schedule.begin(self._setups.values())
        self._changed = left_out  # whoever kept them need not any more
        return len(self.rules)

    def _check_edge(self, setup_id: bytes, ids: Iterable[int], edge: bytes | None) -> None:
        """Check that who asks is an edge of the loop whose rules these are, as far as they are here."""
        if edge is None:
            return
        for route_id in ids:
            rule = self.rules.get(route_id)
            if rule is not None and rule.setup_id == setup_id and not is_edge(rule.setup.edges, edge):
                self.refused += 1
                cause = "only an edge of its loop has a rule renewed or removed"
                raise Failure(ErrorCode.PERMISSION_DENIED, cause, FailureFields(setup_id=setup_id))

    def _place(self, placed: PlacedRule, setup: Setup, expires: float) -> Installed:
        following = placed.rule.next_transport if isinstance(placed.rule, ForwardRule) else None
        rule = Installed(placed.rule, self._one(following), self._one(placed.from_transport), setup, expires)
        self.rules[placed.route_id] = rule
        self.pointing.add(placed.route_id, rule)
        self._note(placed.route_id)
        return rule

    def _one(self, transport: UUID | None) -> UUID | None:
        return None if transport is None else self._uuids.setdefault(transport.int, transport)

    def _holder(self, route_id: int) -> Setup | None:
        rule = self.rules.get(route_id)
        return rule.setup if rule is not None else self._reserved.of(route_id)

    def _dies(self, route_id: int, setup: Setup) -> float | None:
        """Return when the lease of one id of a set-up ends; None if the id is no longer the set-up's."""
        rule = self.rules.get(route_id)
        if rule is None or rule.setup is not setup:
            return setup.reserved_until if self._reserved.of(route_id) is setup else None
        if self.idle_limit is None or not rule.used:
            return rule.lapses
        return min(rule.lapses, rule.used + self.idle_limit)

    def _remove(self, ids: Iterable[int], setup: Setup) -> Removed:
        """Remove what the set-up holds of `ids`, and the set-up with its last id."""
        removed: Removed = []
        for route_id in ids:
            rule = self.rules.get(route_id)
            if rule is not None and rule.setup is setup:
                del self.rules[route_id]
                self.pointing.discard(route_id, rule)
                self._note(route_id)
                removed.append((route_id, rule))
            elif self._reserved.of(route_id) is setup:
                self._reserved.release(route_id)
        if all(self._holder(route_id) is not setup for route_id in setup.given):
            del self._setups[setup.key]
            self._schedule.compact()
        return removed

    def _lapsed(self, setup: Setup, now: float) -> bool:
        """Say whether the set-up holds nothing but reservations that are over."""
        unused = all(self._reserved.of(route_id) is setup for route_id in setup.given)
        return unused and setup.reserved_until <= now

    def _note(self, route_id: int) -> None:
        if self._changed is not None:
            self._changed.add(route_id)
            if len(self._changed) > 2 * self._max_rules:
                self._changed = None
