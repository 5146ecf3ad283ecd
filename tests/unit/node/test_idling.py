"""Loops that their apps have forgotten end by the limit, and only those."""

from __future__ import annotations

from planes import Net, attach
from skywire_node.loops.idling import Idling


async def test_a_loop_that_nobody_uses_ends_with_the_reason_at_both_ends() -> None:
    async with Net(2, seed=21) as net:
        near, far = await net.loop(0, 1)
        used, other = await net.loop(0, 1, port=41)
        sinks = [attach(loop) for loop in (near, far, used, other)]
        loops = net.planes[0].loops
        now = loops.clock()
        loops.clock = lambda: now  # type: ignore[method-assign]
        idling = Idling(loops, 60.0)
        idling.look()
        now += 59
        idling.look()
        assert near.state == used.state == "OPEN"
        other.write(b"x")
        await sinks[2].until(1)
        now += 1
        idling.look()
        assert (near.state, used.state) == ("CLOSED", "OPEN")
        await sinks[1].closed.wait()
        assert all("idle" in str(sink.reason) for sink in sinks[:2])
        # Waiting for a route is no idleness.
        used.paused_at = now
        used._open.clear()
        now += 61
        idling.look()
        assert used.state == "OPEN"
        used._open.set()
        now += 60
        idling.look()
        assert used.state == "CLOSED"
