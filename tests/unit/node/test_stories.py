"""What a node remembers of its loops' lives: the first and last events, of loops that live and the last ones."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from planes import Net, attach
from skywire_common.curve import SecretKey
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.loops.local_loop import LocalLoop
from skywire_node.loops.stories import FIRST_KEPT, KEPT, MAX_EVENTS, MAX_TEXT, Stories, Story
from skywire_node.owner.owner import OwnersLoops

KEY = SecretKey.generate().public


def begin(stories: Stories, number: int) -> Story:
    return stories.begin(number.to_bytes(16, "big"), "app", Addr(KEY, 1), Addr(KEY, 2), initiator=True)


def test_the_events_of_one_loop_are_bounded_and_the_first_and_last_are_kept() -> None:
    story = begin(Stories(lambda: 7.0), 1)
    for number in range(MAX_EVENTS + 10):
        story.note("event", str(number))
    assert len(story.events) == MAX_EVENTS
    assert story.left_out == 10
    said = [int(event.text) for event in story.events]
    assert said == [*range(FIRST_KEPT), *range(FIRST_KEPT + 10, MAX_EVENTS + 10)]


def test_a_text_is_bounded() -> None:
    story = begin(Stories(lambda: 7.0), 1)
    story.note("event", "x" * (2 * MAX_TEXT))
    assert len(story.events[0].text) == MAX_TEXT


def test_stories_of_loops_that_are_over_are_bounded() -> None:
    stories = Stories(lambda: 7.0)
    told = [begin(stories, number << 64) for number in range(1, KEPT + 3)]
    for story in told:
        stories.end(story, "CLOSED")
    stories.end(told[-1], "FAILED")
    for gone in told[:2]:
        with pytest.raises(Failure) as caught:
            stories.find(gone.loop_id.hex())
        assert caught.value.code is ErrorCode.NOT_FOUND
    assert stories.find(told[2].loop_id.hex()).state == "CLOSED"
    assert stories.over() == tuple(told[2:]), "oldest first"
    assert stories.find(told[-1].loop_id.hex()).state == "CLOSED", "a story ends once"


def test_a_story_is_found_by_the_first_digits_of_any_of_its_ids() -> None:
    stories = Stories(lambda: 7.0)
    one, other = begin(stories, 0xAB << 120), begin(stories, 0xAC << 120)
    one.note("set-up", setup_id=bytes((0xCD,)) * 16)
    assert stories.find("AB00") is one
    assert stories.find("cdcd") is one
    assert stories.find("ac00") is other
    for prefix, code in (("ab", ErrorCode.INVALID_ARGUMENT), ("ffff", ErrorCode.NOT_FOUND)):
        with pytest.raises(Failure) as caught:
            stories.find(prefix)
        assert caught.value.code is code
    other.note("set-up", setup_id=bytes((0xCD,)) * 16)
    with pytest.raises(Failure):
        stories.find("cdcd")


async def test_both_ends_tell_the_life_of_a_loop() -> None:
    async with Net(3, seed=120) as net:
        near, far = await net.loop(0, 2)
        sink, other = attach(near), attach(far)
        near.write(b"12345")
        await other.until(5)
        (transport,) = net.planes[0].transports.all.values()
        assert transport.link is not None
        transport.link.abort("cut by the test")
        await net.until(lambda: near.state == "PAUSED")
        await net.until(lambda: near.state == "OPEN")
        near.close()
        await asyncio.gather(sink.closed.wait(), other.closed.wait())
        here = net.planes[0].loops.stories.find(near.loop_id.hex())
        there = net.planes[2].loops.stories.find(near.loop_id.hex())
        assert [event.what for event in here.events] == ["set-up", "open", "paused", "resumed", "closed"]
        assert (here.state, here.initiator, there.initiator) == ("CLOSED", True, False)
        assert "a link of the route is lost" in here.events[2].text
        assert "sent 5 bytes" in here.events[-1].text
        assert there.events[0].what == "accepted"
        assert there.events[-1].what == "closed"
        assert "received 5" in there.events[-1].text


async def test_a_dial_that_failed_is_told_too() -> None:
    async with Net(2, seed=121) as net:
        with pytest.raises(Failure):
            await net.planes[0].loops.dial("test", 49152, Addr(net.keys[1], 77))
        (story,) = net.planes[0].loops.stories._over
        assert (story.state, story.loop_id) == ("FAILED", b"")
        assert [event.what for event in story.events] == ["set-up", "set-up failed", "failed"]
        assert "PORT_CLOSED" in story.events[-1].text
        assert net.planes[0].loops.stories.find(story.events[0].setup_id.hex()) is story


def test_a_loop_within_the_node_has_no_life_to_tell_of_and_says_so() -> None:
    ours, _ = LocalLoop.pair(Addr(KEY, 50_000), Addr(KEY, 20), b"\xab" * 16)
    host: Any = SimpleNamespace(local_loops=lambda: [("caller", ours)])
    loops: Any = SimpleNamespace(stories=Stories(lambda: 0.0))
    tracing: Any = SimpleNamespace()
    owners = OwnersLoops(loops, tracing, host)
    with pytest.raises(Failure, match="within this node"):
        owners.explain("ABAB")
    with pytest.raises(Failure, match="remembers no loop"):
        owners.explain("cdcd")
