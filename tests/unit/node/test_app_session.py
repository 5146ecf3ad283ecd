"""The node's side of an app's pipe, frame by frame."""

from __future__ import annotations

import json
import random

import pytest
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_common.loop.receiving import RECEIVE_WINDOW
from skywire_node.apps.loop import MAX_LOOP_QUEUE
from skywire_node.apps.session import MAX_SHARE, MAX_WINDOW, OVERCOMMIT, Limits, State
from unit.node.app_driver import FAR, OWN, Driver, RecordingLoop, closes, payloads, refusal

INIT = af.encode_init(af.Init("app", "1.0"))
GONE = Failure(ErrorCode.LOOP_RESET, "cut")


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (af.frame(0, 3, af.encode_init(af.Init("other", "1.0"))), "app version 1.0"),
        (af.frame(0, 3, af.encode_init(af.Init("app", "1.1"))), "app version 1.0"),
        (af.frame(0, 3, af.encode_init(af.Init("app", "1.0", "0.0.2"))), "0.0.2"),
        (af.frame(0, 3, b"{}"), "app-name"),
        (af.frame(0, 255, INIT), "254"),
        (af.frame(3, 3, b"{}"), "INIT"),
        (af.frame(0x42, 3, b"{}"), "0x42"),
        (af.frame(0xFF, 3, b"null"), "INIT"),
        (b"\x00\x01\x00\x03", "length"),
    ],
)
def test_a_bad_start_is_refused_with_the_reason_and_closes_the_session(frame: bytes, says: str) -> None:
    driver = Driver(start=False)
    driver.feed(frame)
    ((kind, request_id, body),) = driver.frames()
    assert (kind, request_id) == (FrameType.FAILURE, af.NO_ID if says == "length" else frame[3])
    assert says in body.decode()
    assert driver.session.state is State.CLOSED
    assert not driver.started
    driver.feed(af.frame(0, 0, INIT))
    assert driver.frames() == []


@pytest.mark.parametrize(
    "frame",
    [
        af.frame(0, 3, INIT),
        af.frame(2, 3, b"[]"),
        af.frame(0x42, 3),
        af.frame(3, 3, b"{"),
        af.frame(3, 3, b'{"addr":{"port":1,"remote":{}},"payload":""}'),
        af.frame(1, 3, b'{"pk":"","port":1}'),
        af.frame(0xFF, 9, b"null"),
        af.frame(0xFE, 9, b"no"),
        b"\x00\x00",
    ],
)
def test_what_no_app_may_send_closes_its_session_and_its_loops_with_the_reason(frame: bytes) -> None:
    driver = Driver()
    loop = driver.dialled()
    driver.feed(frame)
    assert refusal(driver.frames()).code is ErrorCode.INVALID_ARGUMENT
    assert driver.session.state is State.CLOSED
    ((call, reason),) = loop.calls
    assert (call, reason.code) == ("close", ErrorCode.LOOP_RESET)


def test_sends_are_answered_at_once_until_the_loop_says_wait() -> None:
    driver = Driver()
    loop = driver.dialled(room=2)
    assert driver.send(loop, b"one", 7) == [(FrameType.SUCCESS, 7, b"null")]
    assert driver.send(loop, b"two", 8) == []
    assert driver.send(loop, b"three", 9) == []
    assert loop.written == b"onetwo"
    loop.room = 1
    loop.reader.on_writable()
    assert driver.frames() == [(FrameType.SUCCESS, 8, b"null")]
    assert loop.written == b"onetwothree"
    loop.room = 5
    loop.reader.on_writable()
    assert driver.frames() == [(FrameType.SUCCESS, 9, b"null")]


def test_one_answer_waits_for_company_if_the_app_agreed_and_a_second_one_does_not() -> None:
    driver = Driver(late_answers=True)
    loop = driver.dialled()
    prefix = af.send_prefix(af.LoopAddr(loop.local.port, loop.remote))
    woken = driver.woken
    driver.feed(af.send(prefix, 7, b"one"))
    assert (driver.woken, driver.late) == (woken, 1)
    driver.feed(af.send(prefix, 8, b"two"))
    assert (driver.woken, driver.late) == (woken + 1, 1)
    assert driver.frames() == [(FrameType.SUCCESS, 7, b"null"), (FrameType.SUCCESS, 8, b"null")]
    driver.feed(af.send(prefix, 9, b"three"))
    loop.reader.on_data(b"echo")
    assert driver.woken == woken + 2
    assert [(kind, number) for kind, number, _ in driver.frames()] == [(FrameType.SUCCESS, 9), (FrameType.SEND, 0)]


def test_a_refusal_is_never_late() -> None:
    driver = Driver(late_answers=True)
    loop = driver.dialled()
    loop.reader.on_closed(None)
    driver.frames()
    woken = driver.woken
    assert refusal(driver.send(loop, b"one", 7)).code is ErrorCode.NOT_FOUND
    assert (driver.woken, driver.late) == (woken + 1, 0)


def test_a_send_in_any_spacing_reaches_the_same_loop_and_an_unknown_loop_is_no_catastrophe() -> None:
    driver = Driver()
    loop = driver.dialled()
    body = {"payload": "aGk=", "addr": {"remote": {"port": 10, "pk": str(FAR)}, "port": 50_000}}
    assert driver.ask(FrameType.SEND, json.dumps(body, indent=2).encode(), 4) == [(FrameType.SUCCESS, 4, b"null")]
    assert loop.written == b"hi"
    body["addr"]["port"] = 50_001
    assert refusal(driver.ask(FrameType.SEND, json.dumps(body).encode(), 5)).code is ErrorCode.NOT_FOUND
    assert driver.session.state is State.READY


@pytest.mark.parametrize("window", [1, 2, 32, 10_000])
def test_toward_an_app_no_more_sends_are_unanswered_than_it_said(window: int) -> None:
    driver = Driver(window=window)
    loop = driver.dialled()
    data = random.Random(window).randbytes(100 * af.SAFE_PAYLOAD)
    loop.reader.on_data(memoryview(data))
    frames = driver.frames(most=1 << 30)
    assert len(frames) == min(window, MAX_WINDOW)
    assert loop.granted == 0
    assert driver.session.unanswered(0.0) == (len(frames), 0.0)
    received = payloads(frames)
    while frames:
        new = []
        for _, request_id, _ in reversed(frames):
            new += driver.succeed(request_id)
        received += payloads(new)
        frames = new
    assert received == data
    assert loop.granted == len(data) + MAX_SHARE - RECEIVE_WINDOW
    assert driver.session.queued == 0
    assert driver.session.unanswered(0.0)[0] == 0


def test_one_unanswered_frame_of_a_large_window_is_seen_with_its_age() -> None:
    driver = Driver(window=32)
    loop = driver.dialled()
    for now in (10.0, 13.0):
        loop.reader.on_data(b"ping")
        driver.session.take(now=now)
    assert driver.session.unanswered(9.0) == (0, 9.0)
    assert driver.session.unanswered(12.0) == (1, 10.0)
    assert driver.session.unanswered(20.0) == (2, 10.0)
    driver.succeed(0)
    assert driver.session.unanswered(20.0) == (1, 13.0)


def test_an_app_that_holds_answers_back_is_asked_once_for_a_sign_of_life() -> None:
    driver = Driver(window=32)
    loop = driver.dialled()
    driver.session.knock(1.0)
    assert driver.frames() == []  # nothing is unanswered
    loop.reader.on_data(b"ping")
    assert payloads(driver.frames()) == b"ping"
    for _ in range(3):
        driver.session.knock(2.0)
    ((kind, number, body),) = driver.frames()
    assert (kind, number, json.loads(body)["payload"]) == (FrameType.SEND, 1, "")
    assert driver.session.unanswered(9.0) == (1, 0.0)  # the knock does not count
    driver.succeed(1)
    assert driver.session.unanswered(9.0) == (1, 0.0)
    assert loop.granted == 0
    # The loop may have ended for the app meanwhile.
    driver.session.knock(3.0)
    ((_, number, _),) = driver.frames()
    driver.feed(af.failure(number, "NOT_FOUND: unknown loop"))
    assert driver.session.state is State.READY and driver.session.loops
    assert driver.session.unanswered(9.0) == (1, 0.0)


def test_an_app_that_takes_one_send_at_a_time_gets_no_other_meanwhile() -> None:
    driver = Driver(window=1)
    driver.dialled().reader.on_data(b"ping")
    driver.frames()
    driver.session.knock(2.0)
    assert driver.frames() == []


def test_small_pieces_that_arrive_while_a_send_is_unanswered_become_one_frame() -> None:
    driver = Driver(window=1, half_close=False)
    loop = driver.dialled()
    loop.reader.on_data(b"a")
    ((_, request_id, _),) = driver.frames()
    for _ in range(1_000):
        loop.reader.on_data(b"b" * 10)
    assert driver.frames() == []
    frames = driver.succeed(request_id)
    assert len(frames) == 1
    assert payloads(frames) == b"b" * 10_000


def test_loops_take_turns_at_the_pipe_and_one_that_is_not_read_holds_up_no_other() -> None:
    driver = Driver(window=64)
    loops = [driver.dialled(50_000 + index) for index in range(100)]
    for loop in loops:
        loop.reader.on_data(bytes(10 * af.SAFE_PAYLOAD))
    ports = [af.decode_send(body)[0].port for _, _, body in driver.frames(most=1 << 30)]
    assert ports[:100] == [loop.local.port for loop in loops]
    assert len(ports) == 200, "254 ids shared by 100 loops"
    late = driver.dialled(60_000)
    late.reader.on_data(b"here")
    assert payloads(driver.frames()) == b"here"


def test_the_nodes_request_ids_are_bounded_and_wait() -> None:
    driver = Driver()
    loops = [driver.dialled(50_000 + index) for index in range(300)]
    for loop in loops:
        loop.reader.on_data(b"x")
    frames = driver.frames(most=1 << 30)
    assert sorted(frame[1] for frame in frames) == list(range(255))
    assert len(driver.succeed(17)) == 1


def test_incoming_loops_get_no_data_before_the_app_confirmed() -> None:
    driver = Driver()
    loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    loop.reader.on_data(b"early")
    ((kind, request_id, _),) = driver.frames()
    assert kind == FrameType.CONFIRM_LOOP
    assert payloads(driver.succeed(request_id)) == b"early"


def test_an_app_may_refuse_a_loop() -> None:
    driver = Driver()
    loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    ((_, request_id, _),) = driver.frames()
    driver.feed(af.failure(request_id, "PORT_CLOSED: not today"))
    assert [(call, str(reason)) for call, reason in loop.calls] == [("close", "PORT_CLOSED: not today")]
    assert driver.frames() == []
    assert driver.session.loops == {}


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


def test_an_offered_loop_that_ends_before_the_app_heard_of_it_leaves_no_trace() -> None:
    driver = Driver(limits=Limits(backlog=1))
    for _ in range(3):
        loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
        driver.session.offer(loop)
        loop.reader.on_closed(None)
        assert driver.frames() == []
    assert driver.session.loops == {}


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
