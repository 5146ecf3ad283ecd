"""How loops end on an app's pipe: closed by either side, by halves, broken, refused, and when the app goes."""

from __future__ import annotations

import pytest
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.apps.limits import Limits
from skywire_node.apps.session import State
from unit.node.app_driver import FAR, OWN, Driver, RecordingLoop, closes, payloads, refusal

GONE = Failure(ErrorCode.LOOP_RESET, "cut")


@pytest.mark.parametrize(("said", "means"), [("PORT_CLOSED: not today",) * 2, ("go away", "CLOSED: go away")])
def test_an_app_may_refuse_a_loop(said: str, means: str) -> None:
    driver = Driver()
    loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    ((_, request_id, _),) = driver.frames()
    driver.feed(af.failure(request_id, said))
    assert [(call, str(reason)) for call, reason in loop.calls] == [("close", means)]
    assert driver.frames() == []
    assert driver.session.loops == {}


def test_an_offered_loop_that_ends_before_the_app_heard_of_it_leaves_no_trace() -> None:
    driver = Driver(limits=Limits(backlog=1))
    for _ in range(3):
        loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
        driver.session.offer(loop)
        loop.reader.on_closed(None)
        assert driver.frames() == []
    assert driver.session.loops == {}


def test_close_of_the_app_comes_after_all_it_sent_and_is_answered_then() -> None:
    driver = Driver()
    loop = driver.dialled(room=1)
    driver.send(loop, b"one", 1)
    driver.send(loop, b"two", 2)
    assert driver.end(loop, 3) == []
    assert loop.calls == []
    loop.room = 9
    loop.reader.on_writable()
    assert [frame[1] for frame in driver.frames()] == [1, 2, 3]
    assert loop.written == b"onetwo"
    assert loop.calls == [("close", None)]
    loop.reader.on_data(b"unread")
    assert loop.granted == 6
    assert refusal(driver.send(loop, b"more", 4)).code is ErrorCode.CLOSED
    loop.reader.on_closed(None)
    assert driver.frames() == []
    assert driver.session.loops == {}
    assert driver.over == [af.LoopAddr(50_000, Addr(FAR, 10))]


def test_half_close_both_ways() -> None:
    driver = Driver()
    loop = driver.dialled()
    driver.send(loop, b"ask", 1)
    assert driver.end(loop, 2, half=True) == [(FrameType.SUCCESS, 2, b"null")]
    assert loop.calls == ["finish"]
    loop.reader.on_data(b"answer")
    loop.reader.on_end()
    frames = driver.frames()
    assert payloads(frames) == b"answer"
    assert closes(frames)[0]["half"] is True
    loop.reader.on_closed(None)
    assert driver.frames() == []
    assert driver.session.loops == {}
    for _, request_id, _ in frames:
        assert driver.succeed(request_id) == []


def test_an_original_app_hears_of_no_half_close_and_of_the_end_after_its_last_answer() -> None:
    driver = Driver(window=1, half_close=False)
    loop = driver.accepted()
    loop.reader.on_data(b"ask")
    loop.reader.on_end()
    ((_, request_id, _),) = driver.frames()
    loop.reader.on_closed(GONE)
    assert driver.frames() == []
    ((kind, close_id, body),) = driver.succeed(request_id)
    assert kind == FrameType.CLOSE
    assert body == af.encode_close(af.Close(af.LoopAddr(10, loop.remote)))
    assert driver.succeed(close_id) == []


def test_an_original_app_cannot_half_close_and_its_close_ends_both_directions() -> None:
    driver = Driver(window=1, half_close=False)
    loop = driver.accepted()
    loop.reader.on_end()
    assert driver.frames() == []
    assert driver.end(loop, 2) == [(FrameType.SUCCESS, 2, b"null")]
    assert loop.calls == [("close", None)]
    driver.end(driver.accepted(60_001), 3, half=True)
    assert driver.session.state is State.CLOSED


def test_a_broken_loop_fails_what_waited_and_tells_the_reason_after_the_last_byte() -> None:
    driver = Driver()
    loop = driver.dialled(room=1)
    driver.send(loop, b"one", 1)
    driver.send(loop, b"two", 2)
    driver.end(loop, 3)
    other = driver.dialled(50_001)
    other.reader.on_data(b"last words")
    loop.reader.on_closed(GONE)
    other.reader.on_closed(GONE)
    frames = driver.frames()
    assert [frame[:2] for frame in frames[:3]] == [(FrameType.FAILURE, index) for index in (1, 2, 3)]
    assert all(frame[2].startswith(b"LOOP_RESET: cut") for frame in frames[:3])
    assert [frame[0] for frame in frames[3:]] == [FrameType.SEND, FrameType.CLOSE]
    assert closes(frames)[0]["reason"] == "LOOP_RESET: cut"
    assert driver.session.loops == {}


def test_an_app_that_refuses_bytes_loses_the_loop() -> None:
    driver = Driver()
    loop = driver.dialled()
    loop.reader.on_data(bytes(3 * af.SAFE_PAYLOAD))
    first, *rest = (frame[1] for frame in driver.frames())
    driver.feed(af.failure(first, "unknown loop"))
    ((call, reason),) = loop.calls
    assert (call, reason.cause) == ("close", "unknown loop")
    for request_id in rest:
        driver.feed(af.failure(request_id, "unknown loop"))
    assert len(loop.calls) == 1
    assert driver.session.queued == 0
    assert driver.session.loops == {}


def test_dials_fail_with_the_reason_and_late_loops_are_closed() -> None:
    driver = Driver()
    driver.ask(FrameType.CREATE_LOOP, af.encode_addr(Addr(FAR, 9)), 7)
    failure = Failure(ErrorCode.NO_ROUTE, "no path").within(retryable=True)
    driver.session.dial_failed(7, failure)
    assert str(refusal(driver.frames())) == str(failure)
    driver.ask(FrameType.CREATE_LOOP, af.encode_addr(Addr(FAR, 9)), 8)
    driver.session.close(None)
    loop = RecordingLoop(Addr(OWN, 50_000), Addr(FAR, 9))
    driver.session.dialled(8, loop)
    assert loop.calls[0][1].code is ErrorCode.CLOSED
    assert driver.frames() == []


def test_an_app_that_leaves_in_order_has_its_last_bytes_delivered() -> None:
    driver = Driver()
    loop = driver.dialled(room=1)
    driver.send(loop, b"one", 1)
    driver.send(loop, b"two", 2)
    driver.session.close(None)
    assert loop.calls == []
    loop.room = 5
    loop.reader.on_writable()
    assert loop.written == b"onetwo"
    assert loop.calls == [("close", None)]
    loop.reader.on_closed(None)
    assert driver.over


def test_an_app_that_is_told_to_stop_and_leaves_in_order_has_its_last_bytes_delivered_and_the_reason() -> None:
    driver = Driver()
    loop, closed = driver.dialled(50_000, room=1), driver.dialled(50_001)
    driver.end(closed, 1)
    driver.send(loop, b"one", 2)
    driver.session.close(GONE, in_order=True)
    loop.reader.on_writable()
    assert loop.written == b"one"
    assert loop.calls == [("leave", GONE)]
    assert closed.calls == [("close", None)]


def test_an_app_may_say_why_it_closes_a_loop() -> None:
    driver = Driver()
    loop = driver.dialled()
    reason = Failure(ErrorCode.STOPPING, "told to end")
    driver.ask(
        FrameType.CLOSE, af.encode_close(af.Close(af.LoopAddr(loop.local.port, loop.remote), reason=str(reason))), 1
    )
    ((how, said),) = loop.calls
    assert (how, said.code, said.cause) == ("leave", reason.code, reason.cause)


def test_an_app_that_crashes_breaks_its_loops_but_not_those_it_had_closed() -> None:
    driver = Driver()
    closed, open_ = driver.dialled(50_000, room=1), driver.dialled(50_001)
    driver.send(closed, b"one", 1)
    driver.send(closed, b"two", 2)
    driver.end(closed, 3)
    waiting = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(waiting)
    driver.session.close(GONE)
    assert open_.calls == [("close", GONE)]
    assert waiting.calls == [("close", GONE)]
    assert closed.calls == []
    closed.reader.on_writable()
    assert closed.calls == [("close", None)]
    with pytest.raises(Failure) as caught:
        driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_001)))
    assert caught.value.code is ErrorCode.PORT_CLOSED


def test_an_offered_loop_that_ends_in_order_before_the_app_heard_of_it_is_offered_for_its_bytes() -> None:
    driver, loop = Driver(), RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    loop.reader.on_data(b"a message")
    loop.reader.on_end()
    loop.reader.on_closed(None)  # so its writer takes it for delivered
    ((kind, request_id, _),) = driver.frames()
    assert kind == FrameType.CONFIRM_LOOP
    frames = driver.succeed(request_id)
    assert payloads(frames) == b"a message"
    assert closes(frames)
