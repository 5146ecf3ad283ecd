"""A node of the world: the real data plane, rerouting, choice of routes and NodeControl, on a process that may die.

What is not real: its links are wires, its calls are lines, its disk is a dict, its discovery is the world's graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sim.cable import Wire
from sim.clock import Process
from sim.control import Line, Server
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import Failure
from skywire_common.keys import Addr, PublicKey
from skywire_common.routes import PathPair
from skywire_node.control.route_setup import RouteSetUps
from skywire_node.control.service import NodeControlService
from skywire_node.control.setup_nodes import SetupNodes, SetupPeer
from skywire_node.edge import Listener, Loop
from skywire_node.link.transport import Transport
from skywire_node.loops.idling import Idling
from skywire_node.loops.loop_setup import Answer, Offer, Routes
from skywire_node.loops.rerouting import Rerouting
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.loops.standby import Standby
from skywire_node.plane import DataPlane
from skywire_node.routing.leases import Kept
from skywire_node.routing.table import RoutingTable
from skywire_node.state.keeping import RuleKeeper
from skywire_transport_discovery.search import Query

if TYPE_CHECKING:
    from sim.world import World


class Disk:
    """What survives the process: rules, as the store keeps them."""

    def __init__(self) -> None:
        self.rules: dict[int, Kept] = {}

    async def load_rules(self) -> list[Kept]:
        return list(self.rules.values())

    async def keep_rules(self, table: RoutingTable, now: float, epoch_now: float) -> None:
        changed = table.take_changed()
        if changed is None:
            self.rules.clear()
        for route_id in list(table.rules) if changed is None else changed:
            kept = table.keep(route_id, now, epoch_now)
            if kept is None:
                self.rules.pop(route_id, None)
            else:
                self.rules[route_id] = kept


class Finder:
    """The discovery as a node asks it for routes."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node

    async def find_routes(
        self,
        source: PublicKey,
        target: PublicKey,
        *,
        count: int = 1,
        avoid_nodes: Iterable[PublicKey] = (),
        avoid_transports: Iterable[UUID] = (),
    ) -> list[PathPair]:
        """Return pairs of paths; raises Failure."""
        nodes, transports = frozenset(map(bytes, avoid_nodes)), frozenset(one.bytes for one in avoid_transports)
        query = Query(source, target, wanted=count, avoid_nodes=nodes, avoid_transports=transports)
        return await self._world.find_routes(query)


class Node:
    """One node over all its lives; `start` begins one, `kill` ends it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.secret = SecretKey(world.rng.randbytes(32))
        self.key = self.secret.public
        self.server = Server(name, self.key)
        self.disk = Disk()
        self.ports: dict[int, str] = {}  # port: what its app does: echo, greet, or nothing
        self.skew = world.rng.uniform(-60, 60)  # of its wall clock
        self.process = Process(world.loop, name)
        self.process.alive = False
        self.plane: DataPlane
        self.rerouting: Rerouting
        self.setups: RouteSetUps
        self.permanent: list[Any] = []
        self.idle_loop = 0.0  # seconds after which idle loops end; 0.0: never
        self.standby = False  # whether its apps want a second pair of routes
        self.offers: dict[bytes, Offer] = {}  # the first of each set-up, as a wire-tapper would keep them
        self.starts = 0
        self._next_port = 49_152 + world.rng.randrange(10_000)

    def epoch_clock(self) -> float:
        """Wall clock, epoch seconds: off by the node's skew."""
        return self.world.loop.time() + self.world.epoch_offset + self.skew

    # -- lives

    def start(self) -> None:
        """Begin a life, with what the disk kept of the last one; to be run as the new process."""
        world = self.world
        ids, waits = (world.randomness(f"{self.name} {what} {self.starts}") for what in ("ids", "waits"))
        self.starts += 1
        process = self.process
        clock = world.loop.time
        peers = [SetupPeer(one.key, Line(world.network, one.server, self.key)) for one in world.setups]  # type: ignore[arg-type]
        setups = self.setups = RouteSetUps(
            self.key,
            Finder(world, self),  # type: ignore[arg-type]
            SetupNodes(peers, monotonic=clock),
            has_link=lambda transport: transport in self.plane.router.links,
            any_link=lambda: bool(self.plane.router.links),
            spawn=process.spawn,
            monotonic=clock,
        )
        self.rerouting = Rerouting(
            setups, process.spawn, epoch_clock=self.epoch_clock, draw=ids.randbytes, jitter=waits.uniform
        )
        plane = self.plane = DataPlane(
            self.secret,
            ids.getrandbits(64),
            setups,
            None,  # type: ignore[arg-type] - nothing is settled or dialled here
            listener=self._listener,
            rerouting=self._lost,
            changed=lambda transport: None,
            spawn=process.spawn,  # type: ignore[arg-type]
            clock=clock,
            epoch_clock=self.epoch_clock,
            draw=ids.randbytes,
        )
        self.rerouting.loops = plane.loops
        Standby(
            plane.loops,
            setups,
            process.spawn,  # type: ignore[arg-type]
            wanted=lambda loop: self.standby,
            install=self.rerouting.install,
            discard=self.rerouting.discard,
            jitter=waits.uniform,
        )
        self._watch_reroutes()
        self._watch_offers()
        for cable in world.cables_of(self):
            entry = Entry.between(cable.ends[0].key, cable.ends[1].key, "tcp", True)
            remote = next(end.key for end in cable.ends if end is not self)
            signed = SignedEntry(entry, (b"", b""), registered=1)
            plane.transports.all[entry.transport_id] = Transport(entry, remote, signed=signed)
        keeper = RuleKeeper(self.disk, plane.table, monotonic=clock, epoch=self.epoch_clock)  # type: ignore[arg-type]
        plane.table.restore(self.disk.rules.values(), clock(), self.epoch_clock())
        self.server.process = process
        self.server.servicer = NodeControlService(
            self.key,
            plane.table,
            plane.loops,
            draw=lambda: ids.getrandbits(32),
            monotonic=clock,
            epoch=self.epoch_clock,
        )
        self.permanent = [
            process.spawn(plane.run(), "tick"),
            process.spawn(self.rerouting.run(), "renew"),
            process.spawn(keeper.run(), "keep"),
        ]
        if self.idle_loop:
            self.permanent.append(process.spawn(Idling(plane.loops, self.idle_loop).run(), "idling"))

    def _watch_offers(self) -> None:
        real = self.plane.loops.confirm

        async def confirm(offer: Offer) -> Answer:
            self.offers.setdefault(offer.setup_id, offer)
            return await real(offer)

        self.plane.loops.confirm = confirm  # type: ignore[method-assign]

    def _watch_reroutes(self) -> None:
        real = self.plane.loops.reroute

        def reroute(loop: RoutedLoop, routes: Routes) -> None:
            real(loop, routes)
            self.world.rerouted(self, loop, routes)

        self.plane.loops.reroute = reroute  # type: ignore[method-assign]

    def _lost(self, loop: RoutedLoop, reason: str) -> None:
        self.world.route_lost(self, loop, reason)
        self.rerouting.lost(loop, reason)

    # -- links

    def link_user(self) -> DataPlane:
        return self.plane

    def link_up(self, wire: Wire) -> None:
        """Carry a transport by this wire, as `Transports` does when a link has settled."""
        transport = self.plane.transports.all[wire.transport_id]
        transport.link = wire  # type: ignore[assignment]
        transport.state = "UP"
        self.plane._transport_changed(transport)

    # -- loops

    def _listener(self, port: int) -> Listener | None:
        return _Accepting(self, self.ports[port]) if port in self.ports else None

    async def dial(self, name: str, remote: PublicKey, port: int) -> None:
        """Dial and hand the loop, or the failure, to the world."""
        self._next_port += 1
        try:
            loop = await self.plane.loops.dial("sim", self._next_port, Addr(remote, port))
        except Failure as failure:
            self.world.refused(name, self, failure)
        else:
            self.world.dialled(name, self, loop)

    async def reroute(self, loop: RoutedLoop) -> None:
        """Have other routes made for a loop whose own are good, and go over to them."""
        old, made = loop.routes, None
        try:
            ways = await self.setups.find(loop.remote.public_key)
            made = await self.rerouting.install(loop, self.world.rng.choice(ways))
        except Failure as failure:
            self.world.tell(f"no other route: {failure}")
            return
        if loop.state == "CLOSED":
            self.rerouting.discard(loop, made)
            return
        self.plane.loops.reroute(loop, made)
        self.setups.close_later(old, loop.loop_id, None, "rerouted")

    def held(self) -> tuple[int, int, int]:
        """Return how many rules, reservations and loops the node has."""
        return len(self.plane.table.rules), self.plane.table.reserved, len(self.plane.loops.by_id)

    def leftovers(self) -> Iterator[str]:
        """Say what is left that a node without loops does not have."""
        plane = self.plane
        rules, reserved, loops = self.held()
        for count, what in ((rules, "rules"), (reserved, "reservations"), (loops, "loops")):
            if count:
                yield f"{count} {what}"
        inner: list[tuple[str, Any]] = [
            ("set-ups in the table", plane.table._setups),
            ("loops by route id", plane.loops._by_route_id),
            ("loops that wait for a link", {link: loops for link, loops in plane.loops._waiting.items() if loops}),
            ("links that loops waited for", {link: 1 for link in plane.loops._waiting if link.lost}),  # type: ignore[attr-defined]
            ("loops with a turn", plane.flow._loops),
            ("reroutings", self.rerouting._under_way),
            ("renewals", self.rerouting._renewing),
            ("rules on disk", self.disk.rules),
        ]
        for what, found in inner:
            if found:
                yield f"{len(found)} {what}"
        for task in self.process.tasks:
            if task not in self.permanent:
                yield f"task {task.get_name()}"
        rings = [handle for handle in self.process.timers() if "RoutedLoop" in repr(handle.callback)]
        if rings:
            yield f"{len(rings)} timers of loops"


class _Accepting:
    def __init__(self, node: Node, how: str) -> None:
        self._node = node
        self._how = how

    def offer(self, loop: Loop) -> None:
        node = self._node
        assert isinstance(loop, RoutedLoop)
        node.world.accepted(node, loop, self._how)
