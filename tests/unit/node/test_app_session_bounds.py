"""What one app may hold of its node: loops, a backlog, bytes, requests."""

from __future__ import annotations

import pytest
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.loop.receiving import RECEIVE_WINDOW
from skywire_common.request_ids import KEPT_FOR_REQUESTS
from skywire_node.apps.limits import OVERCOMMIT, Limits
from skywire_node.apps.loop import MAX_LOOP_QUEUE
from skywire_node.apps.session import State
from unit.node.app_driver import FAR, OWN, Driver, RecordingLoop, closes, refusal


def test_the_nodes_request_ids_are_bounded_and_wait() -> None:
    driver = Driver()
    loops = [driver.dialled(50_000 + index) for index in range(300)]
    for loop in loops:
        loop.reader.on_data(b"x")
    sends = driver.frames(most=1 << 30)
    assert len(sends) == af.REQUEST_IDS - KEPT_FOR_REQUESTS
    offered = [RecordingLoop(Addr(OWN, 10), Addr(FAR, 50_000 + index)) for index in range(KEPT_FOR_REQUESTS + 1)]
    for loop in offered:
        driver.session.offer(loop)
    asked = driver.frames()
    assert [kind for kind, _, _ in asked] == [FrameType.CONFIRM_LOOP] * KEPT_FOR_REQUESTS
    assert sorted(request_id for _, request_id, _ in sends + asked) == list(range(255))
    assert [kind for kind, _, _ in driver.succeed(17)] == [FrameType.CONFIRM_LOOP]
    for _, request_id, _ in asked:
        assert not driver.succeed(request_id), "Sends leave these to requests"
    assert len(driver.succeed(18)) == 1


def test_backlog_is_bounded() -> None:
    driver = Driver()
    for index in range(64):
        driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 50_000 + index)))
    with pytest.raises(Failure) as caught:
        driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000)))
    assert caught.value.code is ErrorCode.BACKLOG_FULL
    frames = driver.frames()
    assert len(frames) == 64
    driver.succeed(frames[0][1])
    driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000)))


def test_loops_per_app_are_bounded() -> None:
    driver = Driver(limits=Limits(loops=2))
    driver.dialled(50_000)
    driver.accepted()
    assert refusal(driver.ask(FrameType.CREATE_LOOP, af.encode_addr(Addr(FAR, 10)))).fields.limit == "app_loops"
    with pytest.raises(Failure):
        driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_001)))


def test_bytes_queued_per_app_and_per_loop_are_bounded() -> None:
    driver = Driver(limits=Limits(queued=100_000 // OVERCOMMIT))
    first, second = driver.dialled(50_000), driver.dialled(50_001)
    first.reader.on_data(bytes(60_000))
    second.reader.on_data(bytes(60_000))
    assert first.calls == []
    ((call, reason),) = second.calls
    assert (call, reason.fields.limit) == ("close", "app_queue")
    assert driver.session.queued == 60_000
    assert closes(driver.frames())[0]["reason"].startswith("LIMIT_REACHED")

    driver = Driver()
    loop = driver.dialled()
    loop.reader.on_data(bytes(MAX_LOOP_QUEUE))
    assert loop.calls == []
    loop.reader.on_data(b"x")
    assert loop.calls[0][0] == "close"


def test_what_loops_are_granted_together_is_bounded() -> None:
    queued = 4 << 20
    driver = Driver(limits=Limits(queued=queued))
    granted = []
    for port in range(50_000, 50_064):
        loop = driver.dialled(port)
        delivered = 0
        for _ in range(6):  # the app keeps up for a while, then reads no more
            size = RECEIVE_WINDOW + loop.granted - delivered
            loop.reader.on_data(bytes(size))
            delivered += size
            frames = driver.frames(1 << 30)
            while frames:
                frames = [new for _, request_id, _ in frames for new in driver.succeed(request_id)]
        assert loop.calls == []
        granted.append(RECEIVE_WINDOW + loop.granted - delivered)
    assert granted[0] == queued
    assert granted[-1] == queued // 64
    assert sum(granted) <= OVERCOMMIT * queued


def test_requests_without_waiting_for_answers_are_bounded() -> None:
    driver = Driver()
    loop = driver.dialled(room=1)
    addr = af.LoopAddr(loop.local.port, loop.remote)
    for index in range(255):
        driver.feed(af.send(af.send_prefix(addr), index, b"x"))
    assert driver.session.state is State.READY
    driver.feed(af.send(af.send_prefix(addr), 0, b"x"))
    assert driver.session.state is State.CLOSED


def test_loops_that_wait_for_an_id_are_woken_by_whatever_answer_frees_it() -> None:
    driver = Driver()
    for loop in [driver.dialled(50_000 + index) for index in range(300)]:
        loop.reader.on_data(b"x")
    ((_, first, _), *_) = driver.frames(most=1 << 30)
    driver.session.knock(5.0)
    ((_, knock, _),) = driver.frames()
    assert not driver.succeed(first)
    woken = driver.woken
    driver.feed(af.SUCCESS[knock])
    assert driver.woken > woken
    assert len(driver.frames()) == 1


def test_bytes_of_an_offered_loop_that_broke_unheard_are_counted_no_more() -> None:
    driver, loop = Driver(), RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    loop.reader.on_data(bytes(1_000))
    assert driver.session.queued == 1_000
    loop.reader.on_closed(Failure(ErrorCode.CLOSED, "gone"))
    assert (driver.session.queued, driver.session.loops) == (0, {})
