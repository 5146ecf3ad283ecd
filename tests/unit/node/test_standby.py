"""Second pairs of routes, over real links between data planes in a ring of four: 0-1-2 and 0-3-2."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection
from uuid import UUID

import pytest
from planes import Net, Sink, attach
from skywire_common.entries import transport_id
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_common.routes import Hop, PathPair
from skywire_node.loops import standby
from skywire_node.loops.loop_setup import Made, Wanted
from skywire_node.loops.rerouting import Rerouting
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.standby import Standby


class Finder:
    """The set-ups as one node of the ring has them."""

    def __init__(self, ring: Ring, index: int) -> None:
        self._ring = ring
        self._index = index
        self.asked = 0

    async def find_apart(
        self, remote: PublicKey, between: Collection[PublicKey], transports: Collection[UUID]
    ) -> list[PathPair]:
        self.asked += 1
        net = self._ring
        return [
            net.by(self._index, net.keys.index(remote), middle) for middle in (1, 3) if net.keys[middle] not in between
        ]

    async def reroute(self, wanted: Wanted) -> Made:
        return await self._ring.reroute(wanted)

    def close_later(self, *given: object) -> None:
        self._ring.close_later(*given)  # type: ignore[arg-type]


class Ring(Net):
    """Four nodes; those in `standing_by` keep a second pair for each of their loops."""

    def __init__(self, seed: int, standing_by: Collection[int] = (0,)) -> None:
        super().__init__(4, seed)
        self.setup_node_up = True
        self.finders: dict[int, Finder] = {}
        self._standing_by = standing_by

    async def __aenter__(self) -> Ring:
        await super().__aenter__()
        await self.planes[0].transports.add(self.keys[3])
        await self.until(lambda: all(len(plane.router.links) == 2 for plane in self.planes))
        for index in self._standing_by:
            finder = self.finders[index] = Finder(self, index)
            loops = self.planes[index].loops
            rerouting = Rerouting(finder, self._spawn, epoch_clock=time.time)  # type: ignore[arg-type]
            rerouting.loops = loops
            Standby(
                loops,
                finder,  # type: ignore[arg-type]
                self._spawn,
                wanted=lambda loop: True,
                install=rerouting.install,
                discard=rerouting.discard,
            )
        return self

    def by(self, source: int, target: int, middle: int) -> PathPair:
        """The pair of paths through one of the nodes in the middle."""
        passed = [self.keys[index] for index in (source, middle, target)]
        forward = tuple(Hop(a, b, transport_id(a, b, "tcp", True)) for a, b in itertools.pairwise(passed))
        return PathPair(forward, tuple(Hop(hop.target, hop.source, hop.transport) for hop in reversed(forward)))

    async def reroute(self, wanted: Wanted) -> Made:
        if not self.setup_node_up:
            raise Failure(ErrorCode.UNAVAILABLE, "the setup node is away")
        return await super().reroute(wanted)

    async def ready(self) -> tuple[RoutedLoop, RoutedLoop, Sink, Sink]:
        """A loop from 0 to 2 whose second pair is ready at both ends."""
        near, far = await self.loop(0, 2)
        assert isinstance(far, RoutedLoop)
        here, there = attach(near), attach(far)
        await self.until(lambda: all(end.offered and end.offered.proved_at for end in (near, far)))
        return near, far, here, there

    def kill(self, index: int) -> None:
        """Cut every link of a node, and let none come back."""
        for transport in self.planes[index].transports.all.values():
            transport.kept = False
            remote = self.planes[self.keys.index(transport.remote)]
            remote.transports.all[transport.entry.transport_id].kept = False
            if transport.link is not None:
                transport.link.abort("killed by the test")


async def test_a_second_pair_apart_from_the_first_is_ready_at_both_ends_and_freed_on_close() -> None:
    async with Ring(1) as net:
        near, far, here, there = await net.ready()
        assert near.offered is not None and far.offered is not None
        assert near.offered.setup_id == far.offered.setup_id != near.routes.setup_id
        assert near.offered.paths == net.by(0, 2, 3)
        assert [len(plane.table.rules) for plane in net.planes] == [4, 2, 4, 2]
        near.close()
        await asyncio.gather(here.closed.wait(), there.closed.wait())
        await net.until(lambda: net.rules() == [0, 0, 0, 0])
        assert net.closed == [], "an orderly close needs no setup node"


async def test_pings_over_it_commit_every_rule_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "KEEP_SECONDS", 0.01)
    async with Ring(2) as net:
        near, far, *_ = await net.ready()
        assert near.offered is not None
        rules = [rule for rule in net.planes[3].table.rules.values() if rule.setup_id == near.offered.setup_id]
        assert len(rules) == 2
        await net.until(lambda: all(rule.packets > 3 and rule.lapses == rule.expires for rule in rules))
        own = [net.planes[0].table.rules[near.offered.forward_id], net.planes[2].table.rules[far.offered.forward_id]]  # type: ignore[union-attr]
        assert all(rule.lapses == rule.expires for rule in own)
        assert near.reroutes == far.reroutes == 0


async def test_when_the_node_in_use_dies_the_loop_goes_on_without_a_setup_node() -> None:
    async with Ring(3) as net:
        near, far, here, there = await net.ready()
        net.setup_node_up = False
        sent = net.random.randbytes(20_000_000)
        back = net.random.randbytes(1_000_000)
        writing = asyncio.gather(here.send(sent), there.send(back))
        await there.until(2_000_000)
        first = near.routes.setup_id
        net.kill(1)
        await writing
        await asyncio.gather(there.until(len(sent)), here.until(len(back)))
        assert (there.got, here.got) == (sent, back)
        assert near.routes.setup_id == far.routes.setup_id != first
        assert (near.reroutes, far.reroutes) == (1, 1)
        assert near.state == far.state == "OPEN"
        assert net.rules()[0] == net.rules()[2] == 2, "the dead pair is freed at both ends"
        near.close()
        await asyncio.gather(here.closed.wait(), there.closed.wait())
        await net.until(lambda: [net.rules()[index] for index in (0, 2, 3)] == [0, 0, 0])


@pytest.mark.parametrize("first", [0, 2])
async def test_the_other_end_follows_the_one_that_noticed(first: int) -> None:
    async with Ring(4 + first) as net:
        near, far, here, there = await net.ready()
        net.setup_node_up = False
        ends = {0: near, 2: far}
        noticed, following = ends[first], ends[2 - first]
        spare = noticed.offered
        assert spare is not None
        noticed.route_lost("said by the test")
        assert noticed.routes is spare
        await net.until(lambda: following.routes.setup_id == spare.setup_id)
        await net.until(lambda: noticed.state == "OPEN")
        assert noticed.offered is following.offered is None
        near.write(b"there")
        far.write(b"back")
        await asyncio.gather(there.until(5), here.until(4))
        assert (there.got, here.got) == (b"there", b"back")
        assert net.rules()[1] == 0, "what was left is torn down"


async def test_what_was_used_is_made_anew_over_the_way_that_is_free() -> None:
    async with Ring(7) as net:
        near, far, _, there = await net.ready()
        near.route_lost("said by the test")
        await net.until(lambda: near.offered is not None and near.offered.proved_at)
        assert near.offered is not None
        assert near.routes.paths == net.by(0, 2, 3)
        assert near.offered.paths == net.by(0, 2, 1)
        near.write(b"on")
        await there.until(2)
        assert far.offered is not None


async def test_a_second_pair_that_dies_is_made_anew_and_the_stream_does_not_notice() -> None:
    async with Ring(8) as net:
        near, far, *_ = await net.ready()
        assert near.offered is not None
        lost = near.offered.setup_id
        net.planes[3].table.undo(lost, owner=bytes(33))
        (rule_at_3,) = [
            transport for transport in net.planes[0].router.links if transport in net.planes[3].router.links
        ]
        net.planes[0].router.links[rule_at_3].abort("cut by the test")  # type: ignore[attr-defined]
        await net.until(lambda: near.offered is not None and near.offered.setup_id != lost and near.offered.proved_at)
        assert near.reroutes == far.reroutes == 0
        assert near.state == "OPEN"
        assert near.loop_id in net.closed, "the lost pair's rules elsewhere are freed"


async def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "UNPROVED_SECONDS", 0.05)
    monkeypatch.setattr(standby, "PING_AGAIN_SECONDS", 0.01)
    async with Ring(9) as net:
        monkeypatch.setattr(standby.asides, "hear", lambda *_: None)
        near, far = await net.loop(0, 2)
        attach(near)
        attach(far)
        await net.until(lambda: any(event.what == "standby lost" for event in near.story.events))
        near.close()
        await net.until(lambda: near.state == "CLOSED" and not net.planes[0].table.rules)


async def test_the_responders_app_may_ask_for_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "RESPONDER_WAITS", 0.0)
    async with Ring(10, standing_by=(2,)) as net:
        near, far, here, there = await net.ready()
        assert far.offered is not None and far.offered.paths == net.by(2, 0, 3)
        net.setup_node_up = False
        net.kill(1)
        near.write(b"there")
        far.write(b"back")
        await asyncio.gather(there.until(5), here.until(4))


async def test_without_a_way_apart_there_is_none_and_the_loop_lives() -> None:
    async with Ring(11) as net:
        net.finders[0].find_apart = _the_same(net)  # type: ignore[method-assign]
        near, far = await net.loop(0, 2)
        sink = attach(far)
        attach(near)
        near.write(b"alone")
        await sink.until(5)
        assert near.offered is None
        assert not any(event.what == "set-up" for event in near.story.events[2:])


def _the_same(net: Ring) -> Callable[..., object]:
    async def find_apart(*_: object) -> list[PathPair]:
        return [net.by(0, 2, 1)]

    return find_apart


async def test_it_is_not_used_before_it_has_proved_itself() -> None:
    async with Ring(12) as net:
        near, _, _, _ = await net.ready()
        assert near.offered is not None
        near.offered.proved_at = 0.0
        before = near.routes
        near.route_lost("said by the test")
        assert near.routes is before
        assert net.rerouted == ["said by the test"]
