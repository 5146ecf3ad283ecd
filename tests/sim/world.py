"""The world: nodes, cables, setup nodes and a route finder, all from one seed.

Everything that is random comes from the seed; ids, keys, ports, clocks and epochs start anywhere. Time passes only in
`tick` and `until`. `events` tells what users of the network would notice, in order.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator

import structlog
from sim.cable import Cable
from sim.clock import Process, VirtualLoop
from sim.control import ControlNetwork, Lines, Server
from sim.ends import End
from sim.node import Node
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure, FailureFields, Phase
from skywire_common.keys import PublicKey
from skywire_common.routes import PathPair
from skywire_node.control import discovery
from skywire_node.loops.loop_setup import Routes
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.plane import TICK
from skywire_setup_node.install import Installer
from skywire_setup_node.nodes import Nodes
from skywire_setup_node.service import SetupNodeService
from skywire_transport_discovery.graph import Graph
from skywire_transport_discovery.rpc.convert import pair_of
from skywire_transport_discovery.search import Query, find_routes

FIND_SECONDS = 0.003


class _Clock:
    def __init__(self, world: World) -> None:
        self._world = world
        self._skew = world.rng.uniform(-60, 60)

    def monotonic(self) -> float:
        return self._world.loop.time()

    def epoch(self) -> float:
        return self._world.loop.time() + self._world.epoch_offset + self._skew


class Setup:
    """A setup node; killed before or after its k-th call if `kill_at` says so."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.key = SecretKey(world.rng.randbytes(32)).public
        self.server = Server(name, self.key)
        self.calls: dict[str, int]
        self.kill_at: tuple[str, int] | None = None
        self.installer: Installer
        self.start()

    def start(self) -> None:
        """Begin a life that remembers nothing."""
        world = self.world
        self.calls = {"before": 0, "after": 0}  # begun, and answered
        self.server.process = Process(world.loop, self.name)
        clock = self.clock = _Clock(world)
        nodes = Nodes(Lines(world.network, world.by_key, self.key), clock)  # type: ignore[arg-type]
        self.installer = Installer(nodes, clock, structlog.get_logger(setup_node=self.name))
        self.server.servicer = SetupNodeService(self.installer, nodes, clock)


class World:
    """Build it, then `tick` it."""

    def __init__(self, seed: int, names: Iterable[str], edges: Iterable[tuple[str, str]], setups: int = 1) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.loop = VirtualLoop(rng.uniform(1, 1e5))
        self.began = self.loop.time()
        self.epoch_offset = rng.uniform(1.7e9, 2e9)
        nowhere = contextvars.Context()
        self.network = ControlNetwork(self.loop, self.randomness("network"), nowhere)
        self.network.observe = self._on_call
        self.trace_calls = False
        self._events: list[tuple[float, str]] = []
        self.ends: dict[str, End] = {}
        self.strays: list[End] = []  # accepted, and the dial behind them came to nothing or lost its race
        self.failures: dict[str, Failure] = {}
        self.discovery_away = self.discovery_frozen = False
        self.graph = Graph()
        self.killed: set[str] = set()  # names of nodes that were ever killed
        self._known_up: dict[str, bool] = {}
        self._thawed: dict[str, float] = {}  # when nodes went on that were frozen: they sweep with their next tick
        self._nowhere = nowhere
        self._accepted: dict[bytes, End] = {}
        self.by_key: dict[PublicKey, Node] = {}
        self.setups = [Setup(self, f"s{number}") for number in range(1, setups + 1)]
        self.nodes = {name: Node(self, name) for name in names}
        self.by_key.update({node.key: node for node in self.nodes.values()})
        self.cables: dict[str, Cable] = {}
        for a, b in edges:
            cable = Cable(
                self.loop, self.randomness(a + b), (self.nodes[a], self.nodes[b]), self._cable_changed, nowhere
            )
            self.cables[cable.name] = cable
        for node in self.nodes.values():
            self.start(node.name)
        self.until(lambda: all(cable.up for cable in self.cables.values()), 10)
        self.tick(1)
        self._events.clear()

    def randomness(self, whose: str) -> random.Random:
        """Return a row of numbers that nobody else's draws disturb: a change of one part leaves the others alone."""
        return random.Random(f"{self.seed} {whose}")

    def close(self) -> None:
        """End every process and the loop."""
        for process in [node.process for node in self.nodes.values()] + [one.server.process for one in self.setups]:
            if process.alive:
                process.kill()
        self.loop.end(lambda: [task for task in asyncio.all_tasks(self.loop) if not task.done()])
        self.loop.close()

    # -- time

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.loop.time() - self.began

    def tick(self, seconds: float) -> None:
        """Let time pass, and fail at once if anything is wrong."""
        self.loop.pass_time(seconds)
        self.check()

    def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Let time pass until the condition holds; say whether it did within so many seconds.

        It is looked at each 10 ms at first, then less and less often, at least once a second.
        """
        began = self.loop.time()
        while not condition():
            waited = self.loop.time() - began
            if waited >= seconds:
                return False
            self.tick(min(0.01 + 0.03 * waited, 1.0))
        return True

    def check(self) -> None:
        """Fail if any byte was wrong, any code met what it does not handle, or a rule outlived a set-up that failed."""
        for end in [*self.ends.values(), *self.strays]:
            assert not end.wrong, end.wrong
        assert not self.loop.bugs, self.loop.bugs
        orphans = self.orphans()
        assert not orphans, orphans

    def do(self, who: Node | None, call: Callable[[], object]) -> None:
        """Run something as a node."""
        self.loop.do(who.process if who is not None else None, call)

    # -- cables

    def cables_of(self, node: Node) -> list[Cable]:
        """Return the cables that end at a node."""
        return [cable for cable in self.cables.values() if node in cable.ends]

    def cable(self, a: str, b: str) -> Cable:
        """Return the cable between two nodes."""
        return self.cables.get(f"{a}-{b}") or self.cables[f"{b}-{a}"]

    def cut(self, a: str, b: str) -> None:
        """Break the connection, and let nobody make another one."""
        cable = self.cable(a, b)
        cable.cut = True
        cable.break_()

    def join(self, a: str, b: str) -> None:
        """Mend a cable that was cut."""
        cable = self.cable(a, b)
        cable.cut = False
        cable.try_soon()

    def flap(self, a: str, b: str) -> None:
        """Break the connection; it is dialled again."""
        self.cable(a, b).break_()

    def hole(self, a: str, b: str) -> None:
        """Let nothing through from a to b, and tell nobody."""
        self.cable(a, b).lane(a).hole = True

    def lift(self, a: str, b: str) -> None:
        """Let what was held back through again."""
        self.cable(a, b).lane(a).lift()
        self.cable(a, b).try_soon()

    def _cable_changed(self, cable: Cable) -> None:
        """Tell the graph, later: an edge that is up at both ends is up."""
        self.loop.call_later(self.rng.uniform(0.02, 0.4), self._submit, cable, context=self._nowhere)

    def _submit(self, cable: Cable) -> None:
        known = self._known_up.get(cable.name, False)
        if cable.up == known:
            return
        self._known_up[cable.name] = cable.up
        if cable.up:
            self.graph.connect(cable.transport_id.bytes, cable.ends[0].key, cable.ends[1].key)
        else:
            self.graph.disconnect(cable.transport_id.bytes)
        self.tell(f"{cable.name}: {'up' if cable.up else 'down'}")

    # -- processes

    def start(self, name: str) -> None:
        """Start a node that is down."""
        node = self.nodes[name]
        assert not node.process.alive
        node.process = Process(self.loop, name)
        self.do(node, node.start)
        for cable in self.cables_of(node):
            cable.try_soon()

    def kill(self, name: str) -> None:
        """Kill a node: its connections are reset, its loops are gone, its disk stays."""
        node = self.nodes[name]
        self.killed.add(name)
        node.process.kill()
        node.server.died()
        for cable in self.cables_of(node):
            cable.break_()
        for end in [*self.ends.values(), *self.strays]:
            if end.node == name and not end.closed:
                end.lost = True

    def restart(self, name: str, after: float = 0.5) -> None:
        """Kill a node and start it again soon."""
        self.kill(name)
        self.tick(after)
        self.start(name)

    def freeze(self, name: str) -> None:
        """Stop a node's process as SIGSTOP does."""
        self.nodes[name].process.freeze()

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self._thawed[name] = self.loop.time()
        self.nodes[name].process.thaw()
        for cable in self.cables_of(self.nodes[name]):
            cable.try_soon()

    def setup(self, name: str) -> Setup:
        """Return the setup node of this name."""
        return next(one for one in self.setups if one.name == name)

    def kill_setup(self, name: str) -> None:
        """Kill a setup node."""
        one = self.setup(name)
        one.server.process.kill()
        one.server.died()
        self.tell(f"{name}: killed")

    def _on_call(self, when: str, caller: Process, server: Server, method: str) -> None:
        for one in self.setups:
            if one.server.process is caller:
                one.calls[when] += 1
                if self.trace_calls and when == "before":
                    self.tell(f"{one.name}: {one.calls[when]} {method} at {server.name}")
                if one.kill_at == (when, one.calls[when]):
                    one.kill_at = None
                    self.kill_setup(one.name)

    # -- routes

    async def find_routes(self, query: Query) -> list[PathPair]:
        """Answer as the discovery would."""
        await asyncio.sleep(FIND_SECONDS)
        if self.discovery_frozen:
            await asyncio.sleep(discovery.FIND_SECONDS)
            raise Failure(ErrorCode.DEADLINE, "the discovery does not answer", FailureFields(retryable=True))
        if self.discovery_away:
            raise Failure(ErrorCode.UNAVAILABLE, "the discovery is away", FailureFields(retryable=True))
        try:
            return [pair_of(query.source, found) for found in find_routes(self.graph, query)]
        except Failure as failure:
            raise failure.within(phase=Phase.FIND) from failure

    def path_names(self, routes: Routes) -> str:
        """Show the path of a loop's initiator."""
        if routes.paths is None:
            return "?"
        forward = routes.paths.forward
        return "-".join(self.by_key[key].name for key in (forward[0].source, *(hop.target for hop in forward)))

    # -- loops

    def dial(self, name: str, source: str, target: str, port: int) -> None:
        """Begin to dial; the ends are named `name` and the node's."""
        node = self.nodes[source]
        remote = self.nodes[target].key
        self.do(node, lambda: node.process.spawn(node.dial(name, remote, port), "dial"))

    def accepted(self, node: Node, loop: RoutedLoop, how: str) -> None:
        """Take an incoming loop; its app attaches a little later."""
        end = End(f"?{node.name}", node.name, loop, self.rng.randrange(1 << 18), self.loop.time)
        end.echo = how == "echo"
        end.told = self._told
        self._accepted[loop.loop_id] = end
        self.strays.append(end)
        self.loop.call_later(self.rng.uniform(0, 0.01), loop.attach, end, context=node.process.context)
        if how == "greet":
            end.write(1000)

    def dialled(self, name: str, node: Node, loop: RoutedLoop) -> None:
        """Join both ends of a new loop."""
        end = End(f"{name}{node.name}", node.name, loop, self.rng.randrange(1 << 18), self.loop.time)
        end.told = self._told
        self.ends[end.name] = end
        far = self._accepted.get(loop.loop_id)
        self.tell(f"{end.name}: open by {self.path_names(loop.routes)}")
        if far is not None:
            self.strays.remove(far)
            far.name = f"{name}{far.node}"
            far.other, end.other = end, far
            self.ends[far.name] = far
        loop.attach(end)

    def refused(self, name: str, node: Node, failure: Failure) -> None:
        """Note a dial that failed."""
        self.failures[name] = failure
        self.tell(f"{name}{node.name}: no loop: {failure}")

    def _told(self, end: End, what: str) -> None:
        if end in self.strays:
            return
        self.tell(f"{end.name}: {what}")

    def _end_of(self, node: Node, loop: RoutedLoop) -> str:
        return next((end.name for end in self.ends.values() if end.loop is loop), f"?{node.name}")

    def route_lost(self, node: Node, loop: RoutedLoop, reason: str) -> None:
        """Note that a node's loop has lost its route."""
        self.tell(f"{self._end_of(node, loop)}: route lost: {reason}")

    def rerouted(self, node: Node, loop: RoutedLoop, routes: Routes) -> None:
        """Note that a node's loop goes on over another route."""
        if loop.initiator:
            self.tell(f"{self._end_of(node, loop)}: rerouted by {self.path_names(routes)}")

    # -- what is left

    def orphans(self) -> list[str]:
        """Say which nodes hold rules whose set-up never committed and whose lease is over: none, ever."""
        now = self.loop.time()
        awake = [node for node in self.nodes.values() if node.process.alive and not node.process.frozen]
        awake = [node for node in awake if now - self._thawed.get(node.name, 0.0) > TICK]
        counts = {node.name: node.plane.table.orphaned(now) for node in awake}
        return [f"{name}: {count} rules orphaned" for name, count in counts.items() if count]

    def leftovers(self) -> Iterator[str]:
        """Say what is left anywhere that an idle world does not have."""
        for node in self.nodes.values():
            if node.process.alive:
                for what in node.leftovers():
                    yield f"{node.name}: {what}"
        for one in self.setups:
            if one.server.process.alive and (one.installer.under_way or one.installer.undoing):
                yield f"{one.name}: {one.installer.under_way} set-ups, {one.installer.undoing} undos"

    def clean(self) -> bool:
        """Say whether nothing is left."""
        return next(self.leftovers(), None) is None

    # -- telling

    def tell(self, what: str) -> None:
        """Note an event; who reads it finds names for keys and ids."""
        self._events.append((self.now, what))

    def take_events(self) -> list[str]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return [f"{at:8.1f} {self.named(what)}" for at, what in events]

    def named(self, text: str) -> str:
        """Put names where keys, transports and set-ups stand."""
        for key, node in self.by_key.items():
            text = text.replace(key.hex(), node.name).replace(key.short, node.name)
        for one in self.setups:
            text = text.replace(one.key.hex(), one.name).replace(one.key.short, one.name)
        for cable in self.cables.values():
            text = text.replace(str(cable.transport_id), cable.name).replace(cable.transport_id.hex, cable.name)
        return re.sub(r"setup=[0-9a-f]{32} ?", "", text).replace(" []", "")


def topology(kind: str, count: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Return names and edges of a shape: line, ring, diamond, mesh or star."""
    names = [chr(ord("a") + index) for index in range(count)]
    match kind:
        case "line":
            edges = list(itertools.pairwise(names))
        case "ring":
            edges = [*itertools.pairwise(names), (names[-1], names[0])]
        case "diamond":
            edges = [edge for middle in names[1:-1] for edge in ((names[0], middle), (middle, names[-1]))]
        case "mesh":
            edges = list(itertools.combinations(names, 2))
        case "star":
            edges = [(names[0], name) for name in names[1:]]
        case _:
            raise ValueError(f"no shape {kind}")
    return names, edges
