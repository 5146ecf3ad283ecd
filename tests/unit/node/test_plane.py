"""Loops over real links between data planes of one process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from planes import Net, Sink, attach
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import Addr
from skywire_node.edge import Loop
from skywire_node.loops import loops as loops_module
from skywire_node.loops.loop_setup import Wanted
from skywire_node.loops.routed_loop import RoutedLoop

LEFT = Failure(ErrorCode.STOPPING, "the app was told to end")


@pytest.mark.parametrize("nodes", [2, 3, 5])
async def test_bytes_pass_in_both_directions_and_closing_frees_every_rule(nodes: int) -> None:
    async with Net(nodes, seed=nodes) as net:
        sink, echo = await net.there_and_back(0, nodes - 1, 3_000_000)
        assert sink.reason is echo.reason is None
        await net.until(lambda: net.rules() == [0] * nodes)
        assert net.closed == [], "an orderly close needs no setup node"
        assert all(not plane.loops.by_id for plane in net.planes)


async def test_an_abort_tells_the_other_end_why_and_frees_the_rules() -> None:
    async with Net(3, seed=9) as net:
        near, far = await net.loop(0, 2)
        attach(near)
        other = attach(far)
        near.close(Failure(ErrorCode.CLOSED, "the app crashed"))
        await other.closed.wait()
        assert other.reason is not None and "the app crashed" in str(other.reason)
        await net.until(lambda: net.rules() == [0, 0, 0])


class Leaving(Sink):
    """What a session does for an app that has left: it hands over what the loop had no room for, then closes."""

    def __init__(self, loop: Loop, held: list[bytes]) -> None:
        super().__init__(loop)
        self.held = held

    def on_writable(self) -> None:
        while self.held:
            if not self.loop.write(self.held.pop(0)):
                return
        self.loop.close()


async def test_draining_waits_for_bytes_that_a_loop_had_no_room_for_and_tells_the_others_why_they_end() -> None:
    async with Net(2, seed=44) as net:
        near, far = await net.loop(0, 1)
        other, other_far = await net.loop(0, 1)
        sent = net.random.randbytes(6_000_000)
        held = [sent[at : at + 48_000] for at in range(0, len(sent), 48_000)]
        leaving = Leaving(near, held)
        near.attach(leaving)
        here = attach(other)
        while near.write(held.pop(0)):
            pass
        draining = asyncio.create_task(net.planes[0].loops.drain())
        told = attach(other_far)
        await told.closed.wait()
        assert told.reason is not None and told.reason.code is ErrorCode.STOPPING
        got = attach(far)
        await got.closed.wait()
        await draining
        assert got.got == sent
        assert got.reason is None
        assert here.reason is not None and here.reason.code is ErrorCode.STOPPING


async def test_an_app_whose_node_stops_does_not_take_what_came_for_the_whole_though_the_other_end_closes_too() -> None:
    async with Net(2, seed=45) as net:
        near, far = await net.loop(0, 1)
        reader, writer = attach(near), attach(far)
        reader.reading = False
        while far.write(bytes(48_000)):
            pass
        far.close()
        await net.until(lambda: len(reader.got) > 0)
        await net.planes[0].loops.drain()
        assert reader.reason is not None and reader.reason.code is ErrorCode.STOPPING
        await writer.closed.wait()
        assert writer.reason is None, "it has asked for the end itself"


def then(loop: RoutedLoop, act: Callable[[], None]) -> None:
    """Have something happen right after the packet with which the far app says why it ends."""
    receive = loop.receive

    def and_act(payload: memoryview, now: float) -> None:
        receive(payload, now)
        if loop.endpoint.receiving.reason and loop.state == "OPEN":
            act()

    loop.receive = and_act  # type: ignore[method-assign]


async def test_a_node_that_stops_right_after_the_far_app_said_why_it_ends_passes_that_on() -> None:
    async with Net(2, seed=46) as net:
        near, far = await net.loop(0, 1)
        reader, _ = attach(near), attach(far)
        then(near, lambda: near.stop(Failure(ErrorCode.STOPPING, "the node is stopping")))
        far.write(b"half of it")
        far.close(LEFT, deliver=True)
        await reader.closed.wait()
        assert (reader.got, str(reader.reason)) == (b"half of it", str(LEFT))


async def test_a_reason_that_follows_a_half_close_is_told_though_the_last_farewell_is_lost() -> None:
    async with Net(2, seed=47) as net:
        near, far = await net.loop(0, 1)
        writer, other = attach(near), attach(far)
        other.reading = False
        far.finish()
        await writer.ended.wait()
        then(near, lambda: near.ended_by(None))
        while near.write(bytes(48_000)):
            pass
        far.close(LEFT, deliver=True)
        await writer.closed.wait()
        assert len(other.got) < near.bytes_sent
        assert str(writer.reason) == str(LEFT)


async def test_a_loop_that_is_broken_off_without_a_reason_has_no_orderly_end() -> None:
    async with Net(2, seed=48) as net:
        near, far = await net.loop(0, 1)
        reader, _ = attach(near), attach(far)
        far.write(b"half of it")
        await reader.until(10)
        way = far.host.way(far.routes.forward_id)
        assert way is not None
        far._seal(way[1], way[0], far.endpoint.abort(""), far.host.clock())
        await reader.closed.wait()
        assert reader.reason is not None and reader.reason.code is ErrorCode.CLOSED


async def test_a_port_without_an_app_is_refused_and_leaves_nothing_with_the_initiator() -> None:
    async with Net(2, seed=4) as net:
        with pytest.raises(Failure) as refused:
            await net.planes[0].loops.dial("test", 49152, Addr(net.keys[1], 77))
        assert refused.value.code is ErrorCode.PORT_CLOSED
        assert net.rules()[0] == 0


async def test_a_replayed_first_message_is_refused_before_state_is_made() -> None:
    async with Net(2, seed=5) as net:
        near, far = await net.loop(0, 1)
        attach(near)
        attach(far)
        near.close()
        await net.until(lambda: not net.planes[1].loops.by_id)
        (message,) = net.messages
        wanted = Wanted(near.loop_id, b"", near.local, near.remote, 1, net.paths(*net.keys), 5, 6, bytes(16))
        with pytest.raises(Failure) as refused:
            await net.create(wanted, lambda: message)
        assert refused.value.code is ErrorCode.REPLAYED
        assert not net.planes[1].loops.by_id


async def test_a_reader_that_stops_does_not_stop_its_neighbour() -> None:
    async with Net(3, seed=6) as net:
        slow_near, slow_far = await net.loop(0, 2, port=41)
        near, far = await net.loop(0, 2, port=42)
        stuck, sink = attach(slow_far), attach(far)
        stuck.reading = False
        attach(slow_near)
        writer = attach(near)
        while slow_near.write(bytes(48_000)):
            pass
        await writer.send(bytes(4_800_000))
        await sink.until(4_800_000)
        assert len(stuck.got) <= 4 * 1024 * 1024


async def test_both_ends_dialling_at_once_leave_one_transport_the_same_at_both_ends() -> None:
    async with Net(2, seed=7) as net:
        a, b = net.planes
        (entry,) = a.transports.all
        for _ in range(20):
            for side in (a, b):  # both, or the one that keeps it would dial again
                if entry in side.transports.all:
                    side.transports.remove(entry)
            await net.until(lambda: not b.router.links and not a.router.links)
            await asyncio.gather(a.transports.add(net.keys[1]), b.transports.add(net.keys[0]), return_exceptions=True)
            await net.until(lambda: entry in a.router.links and entry in b.router.links)
            await net.until(lambda: a.transports.all[entry].dialled != b.transports.all[entry].dialled)
        assert len(a.transports.all) == len(b.transports.all) == 1


async def test_loops_pause_while_a_link_is_away_and_go_on_when_it_is_back() -> None:
    async with Net(3, seed=8) as net:
        near, far = await net.loop(0, 2)
        sink = attach(far)
        attach(near)
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


class Tap:
    """A TCP proxy that keeps all that passes."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, target: str) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host, _, port = target.rpartition(":")
            there, here = await asyncio.open_connection(host, int(port))
            for source, sink in ((reader, here), (there, writer)):
                task = asyncio.create_task(self._copy(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                self.seen += data
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass  # one end went away; the other learns it below
        finally:
            sink.close()

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def test_a_capture_of_a_link_shows_neither_payload_nor_route_ids_nor_keys() -> None:
    async with Net(2, seed=10) as net:
        tap = Tap()
        await tap.listen(net.addresses[net.keys[1]])
        net.addresses[net.keys[1]] = tap.address
        (transport,) = net.planes[0].transports.all.values()
        assert transport.link is not None
        transport.address = tap.address
        transport.link.abort("so that it is dialled through the tap")
        await net.until(lambda: transport.link is not None and transport.link.active and len(tap.seen) > 0)
        await net.until(lambda: all(plane.router.links for plane in net.planes))
        near, far = await net.loop(0, 1)
        sink, echo = attach(near), attach(far, echo=True)
        marker = b"nobody on the way reads this "
        near.write(marker * 1000)
        await sink.until(len(marker) * 1000)
        seen = bytes(tap.seen)
        assert len(seen) > 2 * len(marker) * 1000
        assert marker not in seen
        for plane in net.planes:
            for route_id in plane.table.rules:
                assert route_id.to_bytes(4, "big") not in seen
        assert bytes(net.keys[0]) not in seen, "XK hides who dialled"
        near.close()
        await asyncio.gather(sink.closed.wait(), echo.closed.wait())
        await tap.close()


async def test_two_loops_on_one_link_get_about_the_same() -> None:
    async with Net(2, seed=11) as net:
        pairs = [await net.loop(0, 1, port=40 + number) for number in range(2)]
        sinks = [attach(far) for _, far in pairs]
        for near, _ in pairs:
            writer = attach(near)
            writer.on_writable = lambda near=near: _fill(near)  # type: ignore[method-assign]
            _fill(near)
        await net.until(lambda: sum(len(sink.got) for sink in sinks) > 60_000_000)
        less, more = sorted(len(sink.got) for sink in sinks)
        assert less / more > 0.6
        for near, _ in pairs:
            near.close(Failure(ErrorCode.CLOSED, "enough"))


def _fill(near: object) -> None:
    while near.write(bytes(48_000)):  # type: ignore[attr-defined]
        pass


async def test_loops_is_bounded_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Net(2, seed=15) as net:
        await net.loop(0, 1)
        monkeypatch.setattr(loops_module, "MAX_LOOPS", 1)
        for dialler in (0, 1):
            with pytest.raises(Failure) as refused:
                await net.planes[dialler].loops.dial("test", 49153, Addr(net.keys[1 - dialler], 40))
            assert refused.value.code is ErrorCode.LIMIT_REACHED
        monkeypatch.setattr(loops_module, "MAX_LOOPS", 2)
        await net.loop(0, 1)


async def test_loops_that_ended_in_order_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops_module, "MAX_ENDED", 3)
    async with Net(2, seed=17) as net:
        ended = []
        for _ in range(5):
            near, far = await net.loop(0, 1)
            sinks = attach(near), attach(far)
            near.close()
            await asyncio.gather(*(sink.closed.wait() for sink in sinks))
            ended.append(near.loop_id)
        for plane in net.planes:
            assert [plane.loops.ended_in_order(loop_id) for loop_id in ended] == [False] * 2 + [True] * 3


async def test_a_rule_that_dies_is_told_to_its_loop_alone() -> None:
    async with Net(3, seed=16) as net:
        first, _ = await net.loop(0, 1)
        second, _ = await net.loop(0, 2)
        loops = net.planes[0].loops
        loops.route_dead(first.routes.app_id, "it is dead")
        assert (first.state, second.state) == ("PAUSED", "OPEN")
        loops.route_dead(first.routes.forward_id ^ 1, "nobody's")
        loops.route_dead(second.routes.forward_id, "it is dead")
        assert second.state == "PAUSED"
        assert len(loops._by_route_id) == 4
        for loop in (first, second):
            loop.ended_by(None)
        assert not loops._by_route_id
