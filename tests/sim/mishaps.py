"""What users and fate may do to a small network, in any order: writes, ends, cuts, deaths, frost, lies, delays."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from sim.ends import End
from sim.node import Disk
from sim.tampering import TAMPERINGS
from sim.world import World
from skywire_common.errors import ErrorCode, Failure
from skywire_setup_node.attempt import STEP_SECONDS

PORT = 40


def network(rng: random.Random) -> tuple[list[str], list[tuple[str, str]]]:
    """Draw a connected graph of 2 to 5 nodes."""
    names = [chr(ord("a") + index) for index in range(rng.choice((2, 3, 3, 4, 4, 4, 5)))]
    edges = [(rng.choice(names[:index]), name) for index, name in enumerate(names) if index]
    others = [edge for edge in itertools.combinations(names, 2) if edge not in edges]
    edges += rng.sample(others, min(len(others), rng.randrange(4)))
    return names, edges


class Mishaps:
    """A world drawn from a seed, and all that may happen in it, each with a weight."""

    def __init__(self, seed: int, log: Callable[[str], None] | None = None) -> None:
        self.rng = rng = random.Random(seed)
        names, edges = network(rng)
        self.world = World(seed, names, edges, setups=rng.choice((1, 1, 2)))
        self.log = log
        self.names = names
        self.edges = edges
        self.pairs: list[tuple[str, str, int]] = []  # who dialled whom, in which of its lives
        self.unnoticed = False  # whether something is broken that only the next packet finds
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
            (1, self.slow_setup),
            (2, self.slow_calls),
            (1, self.discovery),
            (1, self.lose_answers),
            (1, self.clock_jumps),
            (1, self.lose_disk),
            (1, self.remove_rules),
            (1, self.stop),
        ]

    def note(self, what: str) -> None:
        if self.log is not None:
            for event in self.world.take_events():
                self.log(event)
            self.log(f"{self.world.now:8.3f} > {what}")

    def happen(self) -> None:
        """Do one of them."""
        (chosen,) = self.rng.choices(self.actions, [weight for weight, _ in self.actions])
        chosen[1]()

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

    def slow_setup(self) -> None:
        one = self.rng.choice(self.world.setups)
        one.server.slow = self.rng.choice((0.0, 0.3, 1.5, 4.0))
        self.note(f"{one.name} answers calls after {one.server.slow} s")

    def slow_calls(self) -> None:
        node = self.world.nodes[self.rng.choice(self.names)]
        node.server.slow = self.rng.choice((0.0, 0.3, 1.5, 4.0))
        if node.server.slow >= STEP_SECONDS:
            self.unreachable.add(node.name)
        self.note(f"{node.name} answers calls after {node.server.slow} s")

    def discovery(self) -> None:
        world = self.world
        how = self.rng.choice(("away", "frozen")) if not (world.discovery_away or world.discovery_frozen) else "back"
        world.discovery_away, world.discovery_frozen = how == "away", how == "frozen"
        self.note(f"the discovery is {how}")

    def lose_answers(self) -> None:
        network = self.world.network
        network.answers_lost = self.rng.choice((0.1, 0.5, 1.0)) if not network.answers_lost else 0.0
        self.unreachable.update(self.names)
        self.note(f"of {network.answers_lost:.0%} of all calls the answer is lost")

    def clock_jumps(self) -> None:
        node = self.world.nodes[self.rng.choice(self.names)]
        node.skew = self.rng.choice((-3_600, -60, 60, 3_600))  # an hour: rules live for two
        self.note(f"the clock of {node.name} jumps, and is {node.skew} s ahead")

    def lose_disk(self) -> None:
        dead = [node for node in self.world.nodes.values() if not node.process.alive]
        if dead:
            node = self.rng.choice(dead)
            node.disk = Disk()
            self.note(f"{node.name} gets an empty disk")

    def remove_rules(self) -> None:
        """The owner of a node removes some of its rules by hand."""
        name = self.victim(self.live)
        if name:
            plane = self.world.nodes[name].plane
            self.unnoticed = True
            ids = [route_id for route_id in plane.table.rules if self.rng.random() < 0.5]
            self.note(f"{len(ids)} rules of {name} are removed")
            self.world.do(self.world.nodes[name], lambda: plane.loops.rules_removed(plane.table.drop(ids)))

    def stop(self) -> None:
        """Stop a node in order, as SIGTERM does, and start it again."""
        name = self.victim(self.live)
        if name:
            self.note(f"stop {name}")
            node = self.world.nodes[name]
            self.unreachable.add(name)
            self.world.do(node, lambda: node.process.spawn(node.plane.loops.drain(), "drain"))
            self.world.tick(self.rng.choice((0.01, 0.5, 2.0)))
            self.world.restart(name, 0.1)
