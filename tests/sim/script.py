"""Scripts: one command a line, and below it, indented, what the world answered when it was recorded.

A line that begins in the first column is a command, an empty line and a comment (#) stay as they are, an indented
line is the answer recorded for the command above it. An answer is what happened since the last command, with the time
in seconds since the world began, and then what the command itself says.

    nodes 4 diamond              line, ring, diamond, mesh, star; nodes are a, b, c ...
    edges a-b b-c c-a            instead of it: any graph
    setups 2                     setup nodes s1, s2; before the nodes
    listen d 40 [echo|greet]     an app on a port, that echoes, or writes 1000 bytes before it reads anything
    dial 1 a d 40                loop 1; its ends are 1a and 1d
    write 1a 100000              also: finish 1a, close 1a, abort 1a REASON, read 1a off, read 1a on
    cut a b, join a b, flap a b  the cable; hole a b, lift a b: one direction, in silence
    delay a b 0.1, rate a b 25000, tamper a b flip 0.1, tamper a b off
    kill b, start b, restart b, freeze b, thaw b, slow b 3
    setup s1 kill | start | freeze | thaw | before 3 | after 3     (from now on, counted in its calls)
    discovery away | frozen | back, trace on | off
    idle a 60                    a restarts, and from now on ends loops that are idle for so long
    standby a                    apps of this node want a second pair of routes
    replay s1 1a same | other    a setup node offers the first message of loop 1 again, under its set-up id or another
    as b renew | close | reroute 1a     node b asks setup nodes for that, with all that loop 1's end 1a knows
    addrules b live | nolink | unreserved     a setup node asks for rules that it may not have
    reroute 1a                   an end has other routes made and goes over to them
    remove 1a [b]                its node's owner, or that of the next node, removes the rule by which its packets go
    tick 5, until 30 closed 1a   conditions: closed, open, got 1d 100000, clean, lost 1a, rerouted 1a, refused 1
    loops, rules, dropped, shares 1d 2d 3d, meter 1d 2d 3d
    expect got 1d 100000         fails unless it holds now; besides those of `until`:
    expect fair 0.8 1d 2d        of the bytes since the last `shares` the least is so much of the most
    expect kept 0.9 1d 2d        between the last two `meter`s each got so much of what it got between the two before
    expect resent 0.02 1a 2a     less than so much of what each wrote was sent again
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sim.rogue import act_for, add_bad_rules, replay
from sim.world import World, topology
from skywire_common.errors import ErrorCode, Failure


class Wrong(Exception):
    """The script cannot be run, or what it expects does not hold."""


class Script:
    """Runs commands one by one; `answer` returns the lines that each has to show."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._setups = 1
        self._world: World | None = None
        self._marks: dict[str, int] = {}
        self._meters: list[tuple[float, dict[str, int]]] = []

    @property
    def world(self) -> World:
        if self._world is None:
            raise Wrong("say `nodes` first")
        return self._world

    def close(self) -> None:
        """End the world."""
        if self._world is not None:
            self._world.close()

    def answer(self, line: str) -> list[str]:
        """Do one command; return what happened and what it says."""
        name, *words = line.split()
        command: Callable[..., list[str] | None] | None = getattr(self, f"do_{name}", None)
        if command is None:
            raise Wrong(f"no command {name!r}")
        said = command(*words) or []
        if self._world is not None:
            self._world.tick(0)
            return self._world.take_events() + said
        return said

    # -- the world

    def do_setups(self, count: str) -> None:
        self._setups = int(count)

    def do_nodes(self, count: str, shape: str) -> None:
        self._world = World(self._seed, *topology(shape, int(count)), setups=self._setups)

    def do_edges(self, *edges: str) -> None:
        pairs = [(edge[0], edge[2]) for edge in edges]
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        self._world = World(self._seed, names, pairs, setups=self._setups)

    def do_listen(self, node: str, port: str, how: str = "") -> None:
        self.world.nodes[node].ports[int(port)] = how

    def do_idle(self, node: str, seconds: str) -> None:
        self.world.nodes[node].idle_loop = float(seconds)
        self.world.restart(node)

    def do_standby(self, node: str) -> None:
        self.world.nodes[node].standby = True

    # -- loops

    def do_dial(self, name: str, source: str, target: str, port: str) -> None:
        self.world.dial(name, source, target, int(port))

    def _as(self, end: str, call: Callable[[], object]) -> None:
        self.world.do(self.world.nodes[self.world.ends[end].node], call)

    def do_write(self, end: str, size: str) -> None:
        self._as(end, lambda: self.world.ends[end].write(int(size)))

    def do_finish(self, end: str) -> None:
        self._as(end, self.world.ends[end].finish)

    def do_close(self, *ends: str) -> None:
        for end in ends:
            self._as(end, self.world.ends[end].close)

    def do_abort(self, end: str, *reason: str) -> None:
        self._as(end, lambda: self.world.ends[end].abort(Failure(ErrorCode.CLOSED, " ".join(reason))))

    def do_read(self, end: str, how: str) -> None:
        self._as(end, lambda: self.world.ends[end].read(how == "on"))

    def do_remove(self, end: str, neighbour: str = "") -> None:
        node, route_id = self.world.nodes[self.world.ends[end].node], self.world.ends[end].loop.routes.forward_id
        if neighbour:
            node, route_id = self.world.nodes[neighbour], node.plane.table.rules[route_id].next_id
        self.world.do(node, lambda: node.plane.loops.rules_removed(node.plane.table.drop([route_id])))

    def do_reroute(self, end: str) -> None:
        found = self.world.ends[end]
        node = self.world.nodes[found.node]
        self._as(end, lambda: node.process.spawn(node.reroute(found.loop), "reroute"))

    # -- fate

    def do_cut(self, a: str, b: str) -> None:
        self.world.cut(a, b)

    def do_join(self, a: str, b: str) -> None:
        self.world.join(a, b)

    def do_flap(self, a: str, b: str) -> None:
        self.world.flap(a, b)

    def do_hole(self, a: str, b: str) -> None:
        self.world.hole(a, b)

    def do_lift(self, a: str, b: str) -> None:
        self.world.lift(a, b)

    def do_delay(self, a: str, b: str, seconds: str) -> None:
        self.world.cable(a, b).lane(a).delay = float(seconds)

    def do_rate(self, a: str, b: str, rate: str) -> None:
        self.world.cable(a, b).lane(a).rate = float(rate)

    def do_tamper(self, a: str, b: str, how: str, share: str = "0") -> None:
        self.world.cable(a, b).lane(a).tampering = {} if how == "off" else {how: float(share)}

    def do_kill(self, node: str) -> None:
        self.world.kill(node)

    def do_start(self, node: str) -> None:
        self.world.start(node)

    def do_restart(self, node: str) -> None:
        self.world.restart(node)

    def do_freeze(self, node: str) -> None:
        self.world.freeze(node)

    def do_thaw(self, node: str) -> None:
        self.world.thaw(node)

    def do_slow(self, node: str, seconds: str) -> None:
        self.world.nodes[node].server.slow = float(seconds)

    def do_setup(self, name: str, what: str, count: str = "0") -> None:
        one = self.world.setup(name)
        if what == "kill":
            self.world.kill_setup(name)
        elif what == "start":
            one.start()
        elif what == "freeze":
            one.server.process.freeze()
        elif what == "thaw":
            one.server.process.thaw()
        else:
            one.kill_at = (what, one.calls[what] + int(count))

    def do_discovery(self, how: str) -> None:
        self.world.discovery_away, self.world.discovery_frozen = how == "away", how == "frozen"

    def do_trace(self, how: str) -> None:
        self.world.trace_calls = how == "on"

    # -- what no honest setup node does

    def do_replay(self, setup: str, end: str, how: str) -> list[str]:
        return [self.world.named(said) for said in replay(self.world, setup, self.world.ends[end], how == "same")]

    def do_as(self, node: str, what: str, end: str) -> list[str]:
        return [self.world.named(said) for said in act_for(self.world, node, what, self.world.ends[end])]

    def do_addrules(self, node: str, what: str) -> list[str]:
        return [self.world.named(said) for said in add_bad_rules(self.world, node, what)]

    # -- time

    def do_tick(self, seconds: str) -> None:
        self.world.tick(float(seconds))

    def do_until(self, seconds: str, *condition: str) -> None:
        if not self.world.until(lambda: not self._lacks(*condition), float(seconds)):
            raise Wrong(f"not within {seconds} s: {' '.join(condition)}: {self._lacks(*condition)}")

    # -- what is so

    def do_expect(self, *condition: str) -> None:
        lacking = self._lacks(*condition)
        if lacking:
            raise Wrong(lacking)

    def _lacks(self, what: str, *words: str) -> str:
        """Return why a condition does not hold; empty if it does."""
        world = self.world
        if what == "clean":
            return "; ".join(world.leftovers())
        if what in ("fair", "kept", "resent"):
            lacking: str = getattr(self, f"_not_{what}")(float(words[0]), words[1:])
            return lacking
        if what == "refused":
            return "" if words[0] in world.failures else "it was not refused"
        found = [world.ends.get(word) for word in words if not word.isdigit()]
        if what == "open":
            return "" if all(end is not None and not end.over for end in found) else f"not open: {found}"
        ends = [end for end in found if end is not None]
        if len(ends) < len(found):
            return f"no such end: {words}"
        match what:
            case "closed":
                return "; ".join(f"{end.name} is {end.loop.state}" for end in ends if not end.over)
            case "got":
                return "" if ends[0].received >= int(words[1]) else f"{ends[0].name} got {ends[0].received}"
            case "all":
                return "; ".join(
                    f"{end.name} got {end.received} of {end.other.written + end.other.waiting}"
                    for end in ends
                    if end.other is None or end.other.waiting or end.received != end.other.written
                )
            case "rerouted":
                return "" if ends[0].loop.reroutes else "it was not"
            case "waiting":
                return "" if ends[0].loop.waiting_for_route else "it is not"
        raise Wrong(f"no condition {what!r}")

    def do_loops(self) -> list[str]:
        """Show every end."""
        shown = []
        for end in self.world.ends.values():
            state = "LOST" if end.lost else end.loop.state
            resent = end.loop.endpoint.sending.resent
            shown.append(f"{end.name} {state} wrote {end.written} got {end.received} resent {resent}")
        return shown

    def do_rules(self) -> list[str]:
        """Show what each node holds."""
        shown = []
        for node in self.world.nodes.values():
            if node.process.alive:
                rules, reserved, loops = node.held()
                shown.append(f"{node.name}: {rules} rules, {reserved} reserved, {loops} loops")
            else:
                shown.append(f"{node.name}: dead")
        return shown

    def do_dropped(self) -> list[str]:
        """Show what nodes dropped, by reason."""
        nodes = [node for node in self.world.nodes.values() if node.process.alive and node.plane.router.dropped]
        return [
            f"{node.name}: "
            + ", ".join(f"{reason} {count}" for reason, count in sorted(node.plane.router.dropped.items()))
            for node in nodes
        ] or ["nothing"]

    def do_pause(self, end: str) -> list[str]:
        """Show the longest time without data at an end."""
        return [f"{end}: {self.world.ends[end].longest_pause:.1f} s"]

    def do_shares(self, *ends: str) -> list[str]:
        """Show how even the bytes are that ends got since the last time."""
        shown = f"least / most = {self._evenness(ends):.2f}"
        self._marks.update({end: self.world.ends[end].received for end in ends})
        return [shown]

    def _evenness(self, ends: Sequence[str]) -> float:
        got = [self.world.ends[end].received - self._marks.get(end, 0) for end in ends]
        return min(got) / max(max(got), 1)

    def _not_fair(self, share: float, ends: Sequence[str]) -> str:
        evenness = self._evenness(ends)
        return "" if evenness >= share else f"least / most = {evenness:.3f}"

    def do_meter(self, *ends: str) -> list[str]:
        """Show how many bytes each end got a second since the last time."""
        now = self.world.now
        before = self._meters[-1] if self._meters else (0.0, {})
        got = {end: self.world.ends[end].received for end in ends}
        self._meters.append((now, got))
        if not before[1]:
            return []
        return [f"{end}: {(size - before[1][end]) / (now - before[0]) / 1e6:.2f} MB/s" for end, size in got.items()]

    def _not_kept(self, share: float, ends: Sequence[str]) -> str:
        (first, early), (second, middle), (third, late) = self._meters[-3:]
        rates = {
            end: ((middle[end] - early[end]) / (second - first), (late[end] - middle[end]) / (third - second))
            for end in ends
        }
        return "; ".join(
            f"{end}: {then:.0f} bytes a second, then {now:.0f}"
            for end, (then, now) in rates.items()
            if now < share * then
        )

    def _not_resent(self, share: float, ends: Sequence[str]) -> str:
        counts = {
            end: (self.world.ends[end].loop.endpoint.sending.resent, self.world.ends[end].written) for end in ends
        }
        return "; ".join(
            f"{end} sent {again} of {written} bytes again"
            for end, (again, written) in counts.items()
            if again >= share * written
        )


def record(path: Path) -> str:
    """Run a script; return it with the answers that it got."""
    lines: list[str] = []
    script = Script(sum(path.stem.encode()) * 7_919)
    try:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("  "):
                continue
            lines.append(line)
            if line.strip() and not line.startswith("#"):
                try:
                    lines += [f"    {one}".rstrip() for one in script.answer(line)]
                except (Wrong, AssertionError, ValueError, KeyError) as error:
                    raise Wrong(f"{path.name}:{number}: {line}: {error!r}\n" + "\n".join(lines[-20:])) from error
    finally:
        script.close()
    return "\n".join(lines) + "\n"
