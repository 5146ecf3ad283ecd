"""A loop that its owner closes: over at once at both ends, whatever is under way or stuck, and both hear why."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from planes import Net, Sink, attach
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.owner.owner import OwnersLoops
from unit.node.app_driver import Driver, RecordingLoop, refusal

NO_HOST: Any = SimpleNamespace(local_loops=list)
NO_TRACING: Any = SimpleNamespace()


def said(sink: Sink) -> tuple[ErrorCode, bytes]:
    assert sink.reason is not None and "the owner of node" in sink.reason.cause
    return sink.reason.code, sink.reason.fields.hop_key


@pytest.mark.parametrize("closer", [0, 2])
@pytest.mark.parametrize("left", [False, True], ids=["app writes", "app has gone"])
async def test_a_loop_whose_far_app_never_reads_is_over_at_once(closer: int, left: bool) -> None:
    async with Net(3, 21) as net:
        near, far = await net.loop(0, 2)
        sink, deaf = attach(near), attach(far)
        deaf.reading = False
        while near.write(bytes(48_000)):
            pass
        if left:
            near.close()
            assert near.state == "CLOSING"
        OwnersLoops(net.planes[closer].loops, NO_TRACING, NO_HOST).close(near.loop_id)
        await sink.closed.wait()
        await deaf.closed.wait()
        told = {said(deaf)} if left else {said(sink), said(deaf)}
        assert told == {(ErrorCode.CLOSED, net.keys[closer])}
        await net.until(lambda: net.rules() == [0, 0, 0] or net.closed)
        for plane in (net.planes[0], net.planes[2]):
            story = plane.loops.stories.find(near.loop_id.hex())
            assert (story.state, story.events[-1].what) == ("CLOSED", "closed")
            assert "the owner of node" in story.events[-1].text or (left and plane is net.planes[0] and closer == 2)


async def test_a_loop_that_is_not_there_is_named() -> None:
    async with Net(2, 22) as net:
        with pytest.raises(Failure) as caught:
            OwnersLoops(net.planes[0].loops, NO_TRACING, NO_HOST).close(bytes(16))
        assert caught.value.code is ErrorCode.NOT_FOUND


def test_what_the_app_sends_after_the_node_has_ended_its_direction_is_refused() -> None:
    class Ended(RecordingLoop):
        def write(self, data: bytes) -> bool:
            raise LocalError("this direction of the loop was ended")

    driver = Driver()
    loop = driver.dialled()
    loop.__class__ = Ended
    assert refusal(driver.send(loop, b"more", 1)).code is ErrorCode.CLOSED
    other = driver.dialled(50_001)
    assert driver.send(other, b"of another loop", 2) == [(FrameType.SUCCESS, 2, b"null")]
    loop.reader.on_closed(None)
    assert af.LoopAddr(50_000, loop.remote) in driver.over


async def test_an_end_that_was_closed_takes_nothing_more() -> None:
    async with Net(2, 23) as net:
        near, far = await net.loop(0, 1)
        attach(near)
        attach(far).reading = False
        near.write(b"before")
        near.finish()
        with pytest.raises(LocalError, match="ended"):
            near.write(b"after")
        assert near.bytes_sent == len(b"before")
    ours, theirs = LocalLoop.pair(near.local, near.remote)
    attach(ours)
    theirs.attach(Sink(theirs))
    ours.finish()
    with pytest.raises(LocalError, match="ended"):
        ours.write(b"after")
