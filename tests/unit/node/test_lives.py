"""A paused loop whose other node was started anew is reset, and only that one."""

from __future__ import annotations

import pytest
from planes import Net, Sink, attach
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr, PublicKey
from skywire_node.loops import lives
from skywire_node.loops.lives import MAX_WATCHED, Lives
from skywire_node.loops.routed_loop import RoutedLoop


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(lives, "LONGEST_PAUSE", 0.002)


class Directory:
    """What the discovery says, answer by answer; the last one again and again."""

    def __init__(self, *answers: int | Failure) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def epoch_of(self, node: PublicKey) -> int:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Failure):
            raise answer
        return answer


async def paused(net: Net) -> tuple[RoutedLoop, Sink]:
    """A loop that has lost its route."""
    near, far = await net.loop(0, 1)
    sink = attach(near)
    attach(far)
    await net.until(lambda: near.endpoint.heard)
    for plane in net.planes:
        for transport in plane.transports.all.values():
            transport.kept = False
            if transport.link is not None:
                transport.link.abort("cut by the test")
    await net.until(lambda: near.waiting_for_route)
    return near, sink


async def test_a_new_life_ends_the_loop_with_the_reason() -> None:
    async with Net(2, seed=130) as net:
        loop, sink = await paused(net)
        away = Failure(ErrorCode.UNAVAILABLE, "away")
        directory = Directory(loop.remote_epoch, away, loop.remote_epoch, loop.remote_epoch + 1)
        watching = Lives(net.planes[0].loops, directory.epoch_of, net._spawn)
        watching.lost(loop)
        watching.lost(loop)
        await sink.closed.wait()
        assert sink.reason is not None and sink.reason.code is ErrorCode.LOOP_RESET
        assert directory.asked == 4
        await net.until(lambda: not watching.watched)


async def test_a_record_that_may_be_old_ends_nothing() -> None:
    async with Net(2, seed=131) as net:
        loop, _ = await paused(net)
        directory = Directory(loop.remote_epoch - 1)
        watching = Lives(net.planes[0].loops, directory.epoch_of, net._spawn)
        watching.lost(loop)
        await net.until(lambda: directory.asked > 5)
        assert loop.state == "PAUSED"


async def test_a_loop_that_has_a_route_again_is_left_alone() -> None:
    async with Net(2, seed=132) as net:
        loop, _ = await paused(net)
        directory = Directory(loop.remote_epoch)
        watching = Lives(net.planes[0].loops, directory.epoch_of, net._spawn)
        watching.lost(loop)
        await net.until(lambda: directory.asked > 2)
        loop.resume()
        await net.until(lambda: not watching.watched)
        assert loop.state == "OPEN"


async def test_the_nodes_asked_about_are_bounded() -> None:
    class Other:
        def __init__(self) -> None:
            self.remote = Addr(SecretKey.generate().public, 1)

    async with Net(1, seed=133) as net:
        directory = Directory(Failure(ErrorCode.UNAVAILABLE, "away"))
        spawned: list[object] = []
        watching = Lives(net.planes[0].loops, directory.epoch_of, lambda task, name: spawned.append(task))
        for _ in range(MAX_WATCHED + 3):
            watching.lost(Other())  # type: ignore[arg-type]
        assert len(spawned) == watching.watched == MAX_WATCHED
        for task in spawned:
            task.close()  # type: ignore[attr-defined]
