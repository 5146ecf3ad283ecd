"""Who asks for what is not his: a setup node that is trusted and should not be, and a node that is no edge of a loop.

The one replays first messages and asks for rules that it may not have; the other knows all that an edge knows, and has
setup nodes asked for things in a loop's name.
"""

from __future__ import annotations

from uuid import UUID

from sim.control import Lines
from sim.ends import End
from sim.world import World
from skywire_common.edge_tags import TAG_SIZE
from skywire_common.errors import Failure
from skywire_common.routes import Hop
from skywire_common.rules import AppRule, ForwardRule, PlacedRule
from skywire_node.loops.loop_setup import Offer, Wanted
from skywire_setup_node.attempt import Confirmed
from skywire_setup_node.nodes import Nodes
from skywire_setup_node.plan import Confirm, LoopRequest, PathPair

SECONDS = 2.0


def _nodes(world: World, setup: str) -> Nodes:
    one = world.setup(setup)
    return Nodes(Lines(world.network, world.by_key, one.key), one.clock)  # type: ignore[arg-type]


def _say(world: World, setup: str, ask: object) -> list[str]:
    """Run calls as the setup node and return what came of them."""
    said: list[str] = []

    async def run() -> None:
        try:
            said.append(f"taken: {await ask()}")  # type: ignore[operator]
        except Failure as failure:
            said.append(str(failure))

    one = world.setup(setup)
    task = one.server.process.spawn(run(), "rogue")
    world.until(task.done, 10)
    return said


def replay(world: World, setup: str, end: End, same: bool) -> list[str]:
    """Install rules at the responder and offer it the first message of an earlier loop."""
    nodes = _nodes(world, setup)
    loop = end.loop
    target = world.by_key[loop.remote.public_key]
    offer: Offer = target.offers[loop.loop_id]
    setup_id = loop.loop_id if same else world.rng.randbytes(16)
    cable = world.cables_of(target)[0]
    source = next(one for one in cable.ends if one is not target)
    there, back = (Hop(a.key, b.key, cable.transport_id) for a, b in ((source, target), (target, source)))
    loops = len(target.plane.loops.by_id)

    async def ask() -> str:
        first, second = await nodes.reserve(target.key, setup_id, 2, SECONDS)
        expiry = int(target.epoch_clock()) + 600
        rules = [
            PlacedRule(first, ForwardRule(expiry, 1, cable.transport_id), None),
            PlacedRule(second, AppRule(expiry, first, loop.local, loop.remote.port), cable.transport_id),
        ]
        await nodes.add_rules(target.key, setup_id, rules, bytes(2 * TAG_SIZE), SECONDS)
        request = LoopRequest(
            setup_id,
            b"",
            loop.local,
            loop.remote,
            offer.initiator_epoch,
            PathPair((there,), (back,)),
            1,
            2,
            offer.noise_message,
            offer.edge_salt,
        )
        try:
            confirmed: Confirmed = await nodes.confirm(Confirm(target.key, first, second, ()), request, SECONDS)
        finally:
            await nodes.undo(target.key, setup_id, SECONDS)
        return f"{len(confirmed.noise_message)} bytes"

    said = _say(world, setup, ask)
    return [*said, f"{len(target.plane.loops.by_id) - loops} loops made"]


def add_bad_rules(world: World, name: str, what: str) -> list[str]:
    """Ask for one good rule and one bad one in a batch."""
    nodes = _nodes(world, "s1")
    node = world.nodes[name]
    cable = world.cables_of(node)[0]
    setup_id = world.rng.randbytes(16)

    async def ask() -> str:
        first, second = await nodes.reserve(node.key, setup_id, 2, SECONDS)
        expiry = int(node.epoch_clock()) + 600
        good = PlacedRule(first, ForwardRule(expiry, 7, cable.transport_id), cable.transport_id)
        bad = good._replace(route_id=second)
        match what:
            case "live":
                bad = good._replace(route_id=next(iter(node.plane.table.rules)))
            case "nolink":
                bad = bad._replace(rule=ForwardRule(expiry, 7, UUID(int=7)))
            case "unreserved":
                bad = good._replace(route_id=second ^ 1)
        await nodes.add_rules(node.key, setup_id, [good, bad], bytes(2 * TAG_SIZE), SECONDS)
        return "rules"

    before = len(node.plane.table.rules)
    kind = [text.split(":")[0] for text in _say(world, "s1", ask)]
    return [*kind, f"{len(node.plane.table.rules) - before} rules more"]


def act_for(world: World, name: str, what: str, end: End) -> list[str]:
    """Have a node ask setup nodes to renew, close or reroute a loop, with everything that one of its edges knows."""
    node, loop = world.nodes[name], end.loop
    routes, setup_nodes = loop.routes, node.setups._setup_nodes
    said: list[str] = []

    async def ask() -> None:
        try:
            if what == "renew":
                said.append(f"renewed until {await setup_nodes.renew_loop(routes, routes.rules)}")
            elif what == "close":
                left = await setup_nodes.close_loop(routes, loop.loop_id, loop.remote.public_key, f"{name} says so")
                said.append(f"not closed at {' '.join(sorted(world.by_key[key].name for key in left))}")
            else:
                assert routes.paths is not None
                made = (bytes(16), loop.loop_id, loop.local, loop.remote, end.loop.remote_epoch, routes.paths, 1, 2)
                await setup_nodes.reroute_loop(Wanted(*made, routes.edge_salt))
                said.append("rerouted")
        except Failure as failure:
            said.append(str(failure))

    task = node.process.spawn(ask(), "stranger")
    world.until(task.done, 10)
    return said
