"""One seed, one small network, any interleaving of what users and fate may do; then what must hold.

While it goes on: nobody gets a byte that was not written there. When all is mended: every loop whose two nodes lived
goes on and delivers all of it; a loop that closed with a reason had one. After closing: nothing is left anywhere.
"""

from __future__ import annotations

from sim.ends import LEAVING, End
from sim.mishaps import Mishaps

MENDED_SECONDS = 20.0  # in which every loop goes on after all is mended: the longest pause between tries, and a try
CLOSED_SECONDS = 20.0
LEASES_SECONDS = 250.0


class Chaos(Mishaps):
    """`run` has things happen, mends all of them, and checks."""

    def run(self) -> None:
        """Do it all; AssertionError says what did not hold."""
        world, rng = self.world, self.rng
        try:
            for _ in range(rng.randrange(1, 4)):
                self.dial()
            world.tick(rng.choice((0.02, 0.5)))
            for _ in range(rng.randrange(4, 30)):
                self.happen()
                world.tick(rng.choice((0.0, 0.001, 0.01, 0.1, 0.3, 1.0, 2.5)))
            self.mend()
            self.settle()
            if rng.random() < 0.1 and not self.unnoticed:
                self.idle()
            self.end()
            self.nothing_left()
        finally:
            self.note("over")
            world.close()

    def mend(self) -> None:
        """Make everything whole again."""
        world = self.world
        self.note("mend")
        for one in world.setups:
            one.kill_at = None
            one.server.slow = 0.0
        self.start_setup()
        world.discovery_away = world.discovery_frozen = False
        world.network.answers_lost = 0.0
        for node in world.nodes.values():
            node.server.slow = 0.0
            if not node.process.alive:
                world.start(node.name)
            if node.process.frozen:
                world.thaw(node.name)
        for cable in world.cables.values():
            for lane in cable.lanes:
                lane.rate, lane.delay, lane.tampering = 0.0, 0.001, {}
            for one, two in (cable.ends, cable.ends[::-1]):
                world.lift(one.name, two.name)
            world.join(cable.ends[0].name, cable.ends[1].name)
        for end in self.ends():
            self.as_end(end, lambda end=end: end.read(True))

    def settle(self) -> None:
        """Wait until everything that was written is there; assert that no loop needed more than its time."""
        world = self.world
        assert world.until(lambda: not self.dialling() and not self.unsettled(), MENDED_SECONDS), (
            f"stuck: {self.dialling()} {self.unsettled()}"
        )
        late = [end for end in self.ends() if self.unheard_of(end)]
        assert world.until(lambda: all(end.over for end in late), LEASES_SECONDS), f"not lapsed: {late}"
        for end in world.ends.values():
            if end.reason is not None:
                assert self.may_fail(end), f"{end.name} closed without need: {end.reason}"

    def dialling(self) -> list[str]:
        world = self.world
        return [
            f"{source} dials {target}"
            for number, (source, target, life) in enumerate(self.pairs, 1)
            if f"{number}{source}" not in world.ends and str(number) not in world.failures
            if life == world.nodes[source].starts
        ]

    def unsettled(self) -> list[str]:
        found = []
        for end in self.ends():
            other = end.other
            if other is None or other.lost or self.unheard_of(end):
                continue
            if end.did and end.did[-1] in ("close", "abort"):
                found.append(f"{end.name} does not come to its end")
            elif other.waiting or end.received != other.written:
                found.append(f"{end.name} has {end.received} of {other.written} + {other.waiting}")
        return found

    @staticmethod
    def unheard_of(end: End) -> bool:
        """Say whether the initiator went before a packet of it came through; then nothing is left but the lease."""
        return end.loop.silent and end.other is not None and end.other.over

    def may_fail(self, end: End) -> bool:
        """Say whether the loop may have ended with a reason: an app ended it, a node of its ends died or was away."""
        both = [end, end.other] if end.other is not None else [end]
        said = end.reason is not None and end.reason.code is LEAVING.code
        if said and end.other is not None and end.other.leaving:
            return True
        return any("abort" in one.did or one.node in self.world.killed | self.unreachable for one in both)

    def idle(self) -> None:
        """Do nothing for as long as two leases; assert that nothing happens by itself."""
        self.note("idle")
        self.world.tick(20.0)  # for what is still finding its way back
        ends = [end for end in self.ends() if end.other is not None and not end.other.over]
        before = [(end.name, end.loop.reroutes, end.loop.state) for end in ends]
        self.world.tick(65.0)
        after = [(end.name, end.loop.reroutes, end.loop.state) for end in ends]
        assert before == after, f"idle loops were not left alone: {before} {after}"

    def end(self) -> None:
        """Close what is open, in any way; assert that it ends, and how."""
        world, rng = self.world, self.rng
        for end in self.ends():
            if rng.random() < 0.5:
                size = rng.choice((0, 10, 200_000))
                self.as_end(end, lambda end=end, size=size: end.write(size) if size else None)
        for end in self.ends():
            other = end.other
            assert other is not None
            if end.did:
                continue
            ways = [("finish",), ("close",)] if other.did else [(), ("close",), ("finish",)]
            for way in rng.choice(ways):
                self.note(f"{end.name} {way} at last")
                self.as_end(end, getattr(end, way))
        world.tick(0.01)
        for end in self.ends():
            if not end.did:
                self.note(f"{end.name} closes at last")
                self.as_end(end, end.close)
        everyone = [*world.ends.values(), *world.strays]
        assert world.until(lambda: all(end.over for end in everyone), CLOSED_SECONDS) or self.orphans(everyone), (
            f"never closed: {[end for end in everyone if not end.over]}"
        )
        for end in world.ends.values():
            self.check_end(end)

    def orphans(self, everyone: list[End]) -> bool:
        """Say whether what is open lost its other end to a death, which takes a loop's patience to be noticed."""
        late = [end for end in everyone if not end.over]
        if any(end.other is not None and not end.other.lost for end in late):
            return False
        return self.world.until(lambda: all(end.over for end in late), 200.0)

    def check_end(self, end: End) -> None:
        other = end.other
        if other is None:
            return
        if end.reason is not None:
            assert self.may_fail(end), f"{end.name} closed without need: {end.reason}"
            own = end.reason.fields.hop_key == end.loop.local.public_key  # its own node went, whatever still came
            if end.reason.code is LEAVING.code and not own and "close" not in end.did:
                assert end.received == other.written, f"{end.name} got {end.received} of {other.written}"
        elif not end.lost and not other.lost and other.reason is None:
            said = (end.did, other.did)
            assert any("close" in one for one in said) or all("finish" in one for one in said), f"{end.name}: {said}"
            if "close" not in end.did:
                assert end.received == other.written, f"{end.name} got {end.received} of {other.written}"

    def nothing_left(self) -> None:
        """Wait for the leases; assert that nothing is left."""
        world = self.world
        assert world.until(world.clean, LEASES_SECONDS), f"left: {list(world.leftovers())}"
