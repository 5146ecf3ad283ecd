"""A loop that the far app refuses: its initiator hears the app's own reason, whenever the refusal comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from planes import Net, attach
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.edge import Loop
from skywire_node.loops.loop_setup import Made, Wanted
from skywire_node.loops.routed_loop import RoutedLoop
from skywire_node.owner.owner import OwnersLoops
from unit.node.test_closed_by_owner import NO_HOST, NO_TRACING

GO_AWAY = Failure(ErrorCode.CLOSED, "go away")


ANSWER_S = 0.1  # how long the answer to a set-up is under way: longer than a packet over two links


class Refuses(Net):
    """A net whose apps refuse each loop before its initiator knows that it is made."""

    async def create(self, wanted: Wanted, noise_message: Callable[[], bytes]) -> Made:
        made = await super().create(wanted, noise_message)
        await asyncio.sleep(ANSWER_S)
        return made

    def _listener(self, index: int, port: int) -> object:
        net = self

        class Refusing:
            def offer(self, loop: Loop) -> None:
                net.accepted.append((index, loop))
                loop.close(GO_AWAY)

        return Refusing()


@pytest.mark.parametrize("nodes", [2, 3])
async def test_the_initiator_hears_why_the_far_app_refused_before_it_had_its_rules(nodes: int) -> None:
    async with Refuses(nodes, 31) as net:
        near, far = await net.loop(0, nodes - 1)
        sink = attach(near)
        async with asyncio.timeout(10):
            await sink.closed.wait()
        assert sink.reason is not None
        assert (sink.reason.code, sink.reason.cause) == (GO_AWAY.code, GO_AWAY.cause)
        assert not net.rerouted, "no other route is looked for to an app that does not want the loop"
        assert isinstance(far, RoutedLoop)
        assert (far.state, net.planes[-1].loops.by_id) == ("CLOSED", {})
        await net.until(lambda: net.rules() == [0] * nodes)


async def test_an_owner_ends_a_refused_loop_at_once_though_its_initiator_never_comes() -> None:
    async with Refuses(2, 32) as net:
        net.planes[0].loops.open = None  # type: ignore[assignment]  # it dies with the answer in its hands
        with pytest.raises(TypeError):
            await net.planes[0].loops.dial("test", 49152, Addr(net.keys[1], 40))
        (far,) = net.planes[1].loops.by_id.values()
        assert far.state == "CLOSING"
        OwnersLoops(net.planes[1].loops, NO_TRACING, NO_HOST).close(far.loop_id)
        assert (far.state, net.planes[1].loops.by_id) == ("CLOSED", {})
