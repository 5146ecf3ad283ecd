"""One seed, one small network, any interleaving of what users and fate may do; then what must hold.

While it goes on: nobody gets a byte that was not written there. When all is mended: every loop whose two nodes lived
goes on and delivers all of it; a loop that closed with a reason had one. After closing: nothing is left anywhere.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from sim.ends import LEAVING, End
from sim.tampering import TAMPERINGS
from sim.world import World
from skywire_common.errors import ErrorCode, Failure
from skywire_setup_node.attempt import STEP_SECONDS

PORT = 40
MENDED_SECONDS = 45.0  # in which every loop goes on after all is mended: a reroute's longest pause, a link's silence
CLOSED_SECONDS = 30.0
LEASES_SECONDS = 250.0


def network(rng: random.Random) -> tuple[list[str], list[tuple[str, str]]]:
    """Draw a connected graph of 2 to 5 nodes."""
    names = [chr(ord("a") + index) for index in range(rng.choice((2, 3, 3, 4, 4, 4, 5)))]
    edges = [(rng.choice(names[:index]), name) for index, name in enumerate(names) if index]
    others = [edge for edge in itertools.combinations(names, 2) if edge not in edges]
    edges += rng.sample(others, min(len(others), rng.randrange(4)))
    return names, edges


class Chaos:
    """What may happen, each with a weight; `run` does all of it and checks."""

    def __init__(self, seed: int, log: Callable[[str], None] | None = None) -> None:
        self.rng = rng = random.Random(seed)
        names, edges = network(rng)
        self.world = World(seed, names, edges, setups=rng.choice((1, 1, 2)))
        self.log = log
        self.names = names
        self.edges = edges
        self.pairs: list[tuple[str, str, int]] = []  # who dialled whom, in which of its lives
        self.unreachable: set[str] = set()  # nodes that setup nodes did not reach for a while
        for node in self.world.nodes.values():
            node.ports[PORT] = rng.choice(("", "", "greet"))
            node.standby = rng.random() < 0.3
        self.note(f"seed {seed}: {' '.join(self.world.cables)}, {len(self.world.setups)} setup nodes")
        self.actions: list[tuple[int, Callable[[], None]]] = [
            (30, self.write),
            (4, self.finish),
            (4, self.close),
            (2, self.leave),
            (1, self.abort),
            (4, self.dial),
            (6, self.cut),
            (6, self.join),
            (5, self.flap),
            (3, self.hole),
            (5, self.lift),
            (4, self.restart),
            (2, self.kill),
            (4, self.start),
            (2, self.freeze),
            (3, self.thaw),
            (5, self.reroute),
            (3, self.slow),
            (2, self.tamper),
            (2, self.read),
            (1, self.kill_setup),
            (2, self.start_setup),
            (1, self.freeze_setup),
            (2, self.slow_calls),
            (1, self.discovery),
            (1, self.lose_answers),
        ]

    def note(self, what: str) -> None:
        if self.log is not None:
            for event in self.world.take_events():
                self.log(event)
            self.log(f"{self.world.now:8.3f} > {what}")

    def run(self) -> None:
        """Do it all; AssertionError says what did not hold."""
        world, rng = self.world, self.rng
        try:
            for _ in range(rng.randrange(1, 4)):
                self.dial()
            world.tick(rng.choice((0.02, 0.5)))
            weights = [weight for weight, _ in self.actions]
            for _ in range(rng.randrange(4, 30)):
                (action,) = rng.choices(self.actions, weights)
                action[1]()
                world.tick(rng.choice((0.0, 0.001, 0.01, 0.1, 0.3, 1.0, 2.5)))
            self.mend()
            self.settle()
            if rng.random() < 0.1:
                self.idle()
            self.end()
            self.nothing_left()
        finally:
            self.note("over")
            world.close()

    # -- what may happen

    def ends(self) -> list[End]:
        return [end for end in self.world.ends.values() if not end.over and end.other is not None]

    def busy(self) -> set[str]:
        """Nodes at which a loop ends, whose death is allowed to end it."""
        dialling = {name for source, target, _ in self.pairs for name in (source, target)}
        return dialling if self.rng.random() < 0.9 else set()

    def write(self) -> None:
        ends = self.ends()
        if ends:
            end = self.rng.choice(ends)
            size = self.rng.choice((1, 100, 5_000, 48_000, 300_000, 300_000, 1_500_000))
            self.note(f"{end.name} writes {size}")
            self.as_end(end, lambda: end.write(size))

    def finish(self) -> None:
        self.pick(lambda end: end.finish, "finishes")

    def close(self) -> None:
        self.pick(lambda end: end.close, "closes")

    def leave(self) -> None:
        self.pick(lambda end: end.leave, "closes and says why")

    def abort(self) -> None:
        reason = Failure(ErrorCode.CLOSED, "the app crashed")
        self.pick(lambda end: lambda: end.abort(reason), "aborts")

    def pick(self, what: Callable[[End], Callable[[], None]], name: str) -> None:
        ends = self.ends()
        if ends:
            end = self.rng.choice(ends)
            self.note(f"{end.name} {name}")
            self.as_end(end, what(end))

    def as_end(self, end: End, call: Callable[[], object]) -> None:
        node = self.world.nodes[end.node]
        if node.process.frozen:
            node.process.receive(lambda: call() if not end.over else None)  # type: ignore[arg-type,return-value]
        else:
            self.world.do(node, call)

    def dial(self) -> None:
        if len(self.pairs) >= 5:
            return
        source, target = self.rng.sample(self.names, 2)
        if self.live(source) and self.live(target):
            self.pairs.append((source, target, self.world.nodes[source].starts))
            self.note(f"{source} dials {target}")
            self.world.dial(str(len(self.pairs)), source, target, PORT)

    def live(self, name: str) -> bool:
        process = self.world.nodes[name].process
        return process.alive and not process.frozen

    def edge(self) -> tuple[str, str]:
        pair = self.rng.choice(self.edges)
        return pair if self.rng.random() < 0.5 else pair[::-1]

    def cut(self) -> None:
        a, b = self.edge()
        self.note(f"cut {a} {b}")
        self.world.cut(a, b)

    def join(self) -> None:
        cut = [cable for cable in self.world.cables.values() if cable.cut]
        if cut:
            cable = self.rng.choice(cut)
            self.note(f"join {cable.name}")
            self.world.join(cable.ends[0].name, cable.ends[1].name)

    def flap(self) -> None:
        a, b = self.edge()
        self.note(f"flap {a} {b}")
        self.world.flap(a, b)

    def hole(self) -> None:
        a, b = self.edge()
        self.note(f"hole {a} > {b}")
        self.world.hole(a, b)
        if self.rng.random() < 0.5:
            self.world.hole(b, a)

    def lift(self) -> None:
        for a, b in self.edges:
            for one, two in ((a, b), (b, a)):
                if self.world.cable(a, b).lane(one).hole and self.rng.random() < 0.7:
                    self.note(f"lift {one} > {two}")
                    self.world.lift(one, two)

    def victim(self, wanted: Callable[[str], bool]) -> str:
        busy = self.busy()
        names = [name for name in self.names if wanted(name) and name not in busy]
        return self.rng.choice(names) if names else ""

    def restart(self) -> None:
        name = self.victim(self.live)
        if name:
            self.note(f"restart {name}")
            self.world.restart(name, self.rng.choice((0.01, 0.5, 2.0)))

    def kill(self) -> None:
        name = self.victim(self.live)
        if name:
            self.note(f"kill {name}")
            self.world.kill(name)

    def start(self) -> None:
        dead = [node.name for node in self.world.nodes.values() if not node.process.alive]
        if dead:
            name = self.rng.choice(dead)
            self.note(f"start {name}")
            self.world.start(name)

    def freeze(self) -> None:
        name = self.victim(self.live)
        if name:
            self.note(f"freeze {name}")
            self.unreachable.add(name)
            self.world.freeze(name)

    def thaw(self) -> None:
        frozen = [node.name for node in self.world.nodes.values() if node.process.frozen]
        if frozen:
            name = self.rng.choice(frozen)
            self.note(f"thaw {name}")
            self.world.thaw(name)

    def reroute(self) -> None:
        ends = [end for end in self.ends() if not self.world.nodes[end.node].process.frozen]
        if ends:
            end = self.rng.choice(ends)
            node = self.world.nodes[end.node]
            if self.rng.random() < 0.5:
                self.note(f"{end.name} thinks its route lost")
                self.as_end(end, lambda: end.loop.route_lost("the test wants it"))
            else:
                self.note(f"{end.name} changes its route")
                self.as_end(end, lambda: node.process.spawn(node.reroute(end.loop), "reroute"))

    def slow(self) -> None:
        a, b = self.edge()
        lane = self.world.cable(a, b).lane(a)
        lane.rate = self.rng.choice((0.0, 2e5, 2e6, 2e7))
        lane.delay = self.rng.choice((0.0005, 0.01, 0.1))
        self.note(f"{a} > {b}: {lane.rate:.0f} bytes/s, {lane.delay} s")

    def tamper(self) -> None:
        a, b = self.edge()
        kind = self.rng.choice(TAMPERINGS)
        self.world.cable(a, b).lane(a).tampering = {kind: self.rng.choice((0.01, 0.2))}
        self.note(f"{a} > {b}: {kind}")

    def read(self) -> None:
        ends = self.ends()
        if ends:
            end = self.rng.choice(ends)
            self.note(f"{end.name} {'stops reading' if end.reading else 'reads'}")
            on = not end.reading
            self.as_end(end, lambda: end.read(on))

    def kill_setup(self) -> None:
        one = self.rng.choice(self.world.setups)
        if one.server.process.alive:
            if self.rng.random() < 0.7:
                when = self.rng.choice(("before", "after"))
                one.kill_at = (when, one.calls[when] + self.rng.randrange(1, 8))
                self.note(f"{one.name} will die {one.kill_at}")
            else:
                self.note(f"kill {one.name}")
                self.world.kill_setup(one.name)

    def start_setup(self) -> None:
        for one in self.world.setups:
            if not one.server.process.alive:
                self.note(f"start {one.name}")
                one.start()
            elif one.server.process.frozen:
                self.note(f"thaw {one.name}")
                one.server.process.thaw()

    def freeze_setup(self) -> None:
        one = self.rng.choice(self.world.setups)
        if one.server.process.alive and not one.server.process.frozen:
            self.note(f"freeze {one.name}")
            one.server.process.freeze()

    def slow_calls(self) -> None:
        node = self.world.nodes[self.rng.choice(self.names)]
        node.server.slow = self.rng.choice((0.0, 0.3, 1.5, 4.0))
        if node.server.slow >= STEP_SECONDS:
            self.unreachable.add(node.name)
        self.note(f"{node.name} answers calls after {node.server.slow} s")

    def discovery(self) -> None:
        self.world.discovery_away = not self.world.discovery_away
        self.note(f"the discovery is {'away' if self.world.discovery_away else 'back'}")

    def lose_answers(self) -> None:
        network = self.world.network
        network.answers_lost = self.rng.choice((0.1, 0.5, 1.0)) if not network.answers_lost else 0.0
        self.unreachable.update(self.names)
        self.note(f"of {network.answers_lost:.0%} of all calls the answer is lost")

    # -- what must hold

    def mend(self) -> None:
        """Make everything whole again."""
        world = self.world
        self.note("mend")
        for one in world.setups:
            one.kill_at = None
        self.start_setup()
        world.discovery_away = False
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
            if other is None or other.lost:
                continue
            if end.did and end.did[-1] in ("close", "abort"):
                found.append(f"{end.name} does not come to its end")
            elif other.waiting or end.received != other.written:
                found.append(f"{end.name} has {end.received} of {other.written} + {other.waiting}")
        return found

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
            if end.reason.code is LEAVING.code and "close" not in end.did:
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
