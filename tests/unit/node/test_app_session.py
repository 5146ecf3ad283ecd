"""The node's side of an app's pipe, frame by frame: its start, and what is sent either way."""

from __future__ import annotations

import json
import random

import pytest
from skywire_common import appframes as af
from skywire_common.appframes import FrameType
from skywire_common.errors import ErrorCode
from skywire_common.keys import Addr
from skywire_common.loop.receiving import RECEIVE_WINDOW
from skywire_node.apps.limits import MAX_SHARE, MAX_WINDOW
from skywire_node.apps.session import State
from unit.node.app_driver import FAR, OWN, Driver, RecordingLoop, payloads, refusal

INIT = af.encode_init(af.Init("app", "1.0"))


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
    assert len(ports) == 100, "one each: as many loops share what a few have for Sends ahead"
    late = driver.dialled(60_000)
    late.reader.on_data(b"here")
    assert payloads(driver.frames()) == b"here"


def test_loops_that_came_first_and_are_not_read_leave_sends_and_requests_to_a_hundred_others() -> None:
    driver = Driver()
    for index in range(100):  # each of them took its share while it was one of a few
        driver.dialled(50_000 + index).reader.on_data(bytes(40 * af.SAFE_PAYLOAD))
        assert driver.frames(most=1 << 30)
    late = driver.dialled(60_000)
    late.reader.on_data(b"here")
    assert payloads(driver.frames()) == b"here"
    driver.session.offer(RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000)))
    ((kind, _, _),) = driver.frames()
    assert kind == FrameType.CONFIRM_LOOP


def test_incoming_loops_get_no_data_before_the_app_confirmed() -> None:
    driver = Driver()
    loop = RecordingLoop(Addr(OWN, 10), Addr(FAR, 60_000))
    driver.session.offer(loop)
    loop.reader.on_data(b"early")
    ((kind, request_id, _),) = driver.frames()
    assert kind == FrameType.CONFIRM_LOOP
    assert payloads(driver.succeed(request_id)) == b"early"
