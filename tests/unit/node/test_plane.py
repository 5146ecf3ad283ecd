"""Loops over real links between data planes of one process."""

from __future__ import annotations

import asyncio

import pytest
from planes import Net, Sink
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.loops import Wanted


@pytest.mark.parametrize("nodes", [2, 3, 5])
async def test_bytes_pass_in_both_directions_and_closing_frees_every_rule(nodes: int) -> None:
    async with Net(nodes, seed=nodes) as net:
        near, far = await net.loop(0, nodes - 1)
        sink, echo = Sink(near), Sink(far, echo=True)
        near.attach(sink)
        far.attach(echo)
        sent = net.random.randbytes(3_000_000)
        for at in range(0, len(sent), 48_000):
            if not near.write(sent[at : at + 48_000]):
                sink.writable.clear()
                await sink.writable.wait()
        await sink.until(len(sent))
        assert sink.got == sent
        near.close()
        await asyncio.gather(sink.closed.wait(), echo.closed.wait())
        assert sink.reason is echo.reason is None
        await net.until(lambda: net.rules() == [0] * nodes)
        assert net.closed == [], "an orderly close needs no setup node"
        assert all(not plane.loops.by_id for plane in net.planes)


async def test_an_abort_tells_the_other_end_why_and_frees_the_rules() -> None:
    async with Net(3, seed=9) as net:
        near, far = await net.loop(0, 2)
        sink, other = Sink(near), Sink(far)
        near.attach(sink)
        far.attach(other)
        near.close(Failure(ErrorCode.CLOSED, "the app crashed"))
        await other.closed.wait()
        assert other.reason is not None and "the app crashed" in str(other.reason)
        await net.until(lambda: net.rules() == [0, 0, 0])


async def test_a_port_without_an_app_is_refused_and_leaves_nothing_with_the_initiator() -> None:
    async with Net(2, seed=4) as net:
        with pytest.raises(Failure) as refused:
            await net.planes[0].loops.dial("test", 49152, Addr(net.keys[1], 77))
        assert refused.value.code is ErrorCode.PORT_CLOSED
        assert net.rules()[0] == 0


async def test_a_replayed_first_message_is_refused_before_state_is_made() -> None:
    async with Net(2, seed=5) as net:
        near, far = await net.loop(0, 1)
        near.attach(Sink(near))
        far.attach(Sink(far))
        near.close()
        await net.until(lambda: not net.planes[1].loops.by_id)
        (message,) = net.messages
        wanted = Wanted(near.loop_id, b"", near.local, near.remote, 1, net.paths(*net.keys), 5, 6)
        with pytest.raises(Failure) as refused:
            await net.create(wanted, lambda: message)
        assert refused.value.code is ErrorCode.REPLAYED
        assert not net.planes[1].loops.by_id


async def test_a_reader_that_stops_does_not_stop_its_neighbour() -> None:
    async with Net(3, seed=6) as net:
        slow_near, slow_far = await net.loop(0, 2, port=41)
        near, far = await net.loop(0, 2, port=42)
        stuck, sink = Sink(slow_far), Sink(far)
        stuck.reading = False
        slow_far.attach(stuck)
        far.attach(sink)
        slow_near.attach(Sink(slow_near))
        writer = Sink(near)
        near.attach(writer)
        while slow_near.write(bytes(48_000)):
            pass
        for _ in range(100):
            if not near.write(bytes(48_000)):
                writer.writable.clear()
                await writer.writable.wait()
        await sink.until(4_800_000)
        assert len(stuck.got) <= 4 * 1024 * 1024


async def test_both_ends_dialling_at_once_leave_one_transport_the_same_at_both_ends() -> None:
    async with Net(2, seed=7) as net:
        a, b = net.planes
        (entry,) = a.transports.all
        for _ in range(20):
            a.transports.remove(entry)
            await net.until(lambda: not b.router.links and not a.router.links)
            await asyncio.gather(a.transports.add(net.keys[1]), b.transports.add(net.keys[0]), return_exceptions=True)
            await net.until(lambda: entry in a.router.links and entry in b.router.links)
            await net.until(lambda: a.transports.all[entry].dialled != b.transports.all[entry].dialled)
        assert len(a.transports.all) == len(b.transports.all) == 1


async def test_loops_pause_while_a_link_is_away_and_go_on_when_it_is_back() -> None:
    async with Net(3, seed=8) as net:
        near, far = await net.loop(0, 2)
        sink = Sink(far)
        far.attach(sink)
        near.attach(Sink(near))
        near.write(b"before ")
        await sink.until(7)
        (transport,) = net.planes[0].transports.all.values()
        assert transport.link is not None
        transport.link.abort("cut by the test")
        await net.until(lambda: near.state == "PAUSED")
        near.write(b"after")
        await sink.until(12)
        assert sink.got == b"before after"
        assert net.rerouted
