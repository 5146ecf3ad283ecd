"""Transports on real sockets: who is let in, who is not, what is dialled again, and the bounds of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from uuid import UUID

import pytest
from planes import Net
from skywire_common.curve import SecretKey
from skywire_common.entries import Entry, SignedEntry
from skywire_common.errors import ErrorCode, Failure
from skywire_common.keys import PublicKey
from skywire_node.link import connection, liveness, transports
from skywire_node.link.connection import Link
from skywire_node.link.handshake import LinkHandshake
from skywire_node.link.transports import MAX_PENDING


async def test_connections_that_never_shake_hands_are_bounded() -> None:
    async with Net(1, seed=31) as net:
        own = net.planes[0].transports
        host, _, port = net.addresses[net.keys[0]].rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_PENDING + 10)]
        await net.until(lambda: own.refused == 10)
        assert len(own._pending) == MAX_PENDING
        for _, writer in opened:
            writer.close()
        await net.until(lambda: not own._pending)


@pytest.mark.parametrize("said", [b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\x00\x31" + bytes(49), bytes(2000)])
async def test_whatever_a_stranger_says_ends_only_its_own_connection(said: bytes) -> None:
    async with Net(2, seed=32) as net:
        host, _, port = net.addresses[net.keys[1]].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        writer.write_eof()
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass  # the same, said less politely
        writer.close()
        assert len(net.planes[1].router.links) == 1


async def test_an_acceptor_with_another_key_than_the_one_dialled_is_refused() -> None:
    async with Net(2, seed=33) as net:
        other = SecretKey.generate().public
        with pytest.raises(Failure) as refused:
            await net.planes[0].transports.add(other, address=net.addresses[net.keys[1]])
        assert refused.value.code is ErrorCode.UNAVAILABLE
        assert refused.value.fields.retryable
        for transport in net.planes[0].transports.all.values():
            if transport.remote == other:
                assert transport.state == "DOWN" and transport.reason


async def test_a_node_neither_dials_itself_nor_knows_other_types() -> None:
    async with Net(1, seed=34) as net:
        for arguments in ({"remote": net.keys[0]}, {"remote": SecretKey.generate().public, "kind": "carrier-pigeon"}):
            with pytest.raises(Failure) as refused:
                net.planes[0].transports.keep(**arguments)  # type: ignore[arg-type]
            assert refused.value.code is ErrorCode.INVALID_ARGUMENT


async def test_a_link_that_is_cut_comes_back_and_its_counts_go_on() -> None:
    async with Net(2, seed=35) as net:
        (transport,) = net.planes[0].transports.all.values()
        assert transport.link is not None
        before = transport.totals()[0]
        transport.link.abort("cut")
        await net.until(lambda: transport.state != "UP")
        await net.until(lambda: transport.state == "UP")
        assert transport.totals()[0] > before


async def test_a_link_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    """Its buffers have half a megabyte, and a quiet node collects no garbage for hours."""
    async with Net(2, seed=44) as net:
        (transport,) = net.planes[0].transports.all.values()
        links = [weakref.ref(link) for plane in net.planes for link in plane.transports.links()]
        gc.collect()
        gc.disable()
        try:
            transport.link.abort("cut")  # type: ignore[union-attr]
            await net.until(lambda: transport.state != "UP")
            await net.until(lambda: transport.state == "UP" and all(plane.router.links for plane in net.planes))
            await net.until(lambda: not any(link() for link in links))
        finally:
            gc.enable()


async def test_a_removed_transport_stays_removed() -> None:
    async with Net(2, seed=36) as net:
        a, b = (plane.transports for plane in net.planes)
        (transport_id,) = a.all
        a.remove(transport_id)
        await net.until(lambda: not net.planes[1].router.links)
        with pytest.raises(Failure):
            a.remove(transport_id)
        # Also if the other end dials, or an earlier life's neighbours are dialled, until the owner adds it again.
        with pytest.raises(Failure, match="has removed this transport"):
            await b.add(net.keys[0])
        await a.meet([Entry.between(*net.keys, "tcp", True)])
        assert not a.all and not net.planes[0].router.links
        assert all(transport.link is None for transport in b.all.values())
        assert a.is_removed(net.keys[1], "tcp", True) and not a.is_removed(net.keys[1], "tcp", False)
        await a.add(net.keys[1])
        await net.until(lambda: bool(net.planes[1].router.links))


async def test_transports_that_stay_removed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "MAX_REMOVED", 3)
    async with Net(1, seed=42) as net:
        for number in range(5):
            net.planes[0].transports.note_removed(UUID(int=number))
        assert list(net.planes[0].transports._removed) == [UUID(int=number) for number in (2, 3, 4)]


async def test_transports_is_bounded_whoever_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Net(3, seed=43) as net:
        monkeypatch.setattr(transports, "MAX_TRANSPORTS", 2)
        middle = net.planes[1].transports
        with pytest.raises(Failure) as refused:
            await middle.add(net.keys[0], public=False)
        assert (refused.value.code, refused.value.fields.limit) == (ErrorCode.LIMIT_REACHED, "transports")
        private = net.planes[0].transports.keep(net.keys[1], public=False)
        await net.until(lambda: "2 transports" in private.reason)
        await middle.meet([Entry.between(net.keys[0], net.keys[1], "tcp", False)])
        assert len(middle.all) == 2 == len(middle.links())


async def test_dials_of_an_earlier_lifes_neighbours_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "MAX_MEETING", 2)

    class Counting(Net):
        asked, most = 0, 0

        async def find_link_address(self, node: PublicKey, kind: str) -> str:
            self.asked += 1
            self.most = max(self.most, self.asked)
            await asyncio.sleep(0.001)
            self.asked -= 1
            raise Failure(ErrorCode.UNKNOWN_NODE, "nobody ever heard of it")

    async with Counting(1, seed=44) as net:
        others = [SecretKey.generate().public for _ in range(6)]
        await net.planes[0].transports.meet(Entry.between(net.keys[0], other, "tcp", True) for other in others)
        assert (net.most, net.asked) == (2, 0)
        assert not net.planes[0].transports.all


async def test_without_a_discovery_a_link_comes_up_unregistered() -> None:
    class Away(Net):
        async def register(self, entries: list[SignedEntry], *, timeout: float = 5.0) -> list[SignedEntry]:
            raise Failure(ErrorCode.UNAVAILABLE, "the discovery is away")

    async with Away(2, seed=37) as net:
        for plane in net.planes:
            (transport,) = plane.transports.all.values()
            assert transport.state == "UP" and not transport.registered
            assert transport.signed is not None
            transport.signed.check()


async def test_a_private_transport_is_another_one_and_is_never_registered() -> None:
    async with Net(2, seed=38) as net:
        private = await net.planes[0].transports.add(net.keys[1], public=False)
        assert private.state == "UP" and not private.registered
        assert len(net.planes[0].transports.all) == 2


async def test_a_silent_link_is_pinged_then_suspected_then_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Net(2, seed=39) as net:
        (transport,) = net.planes[0].transports.all.values()
        link = transport.link
        assert link is not None
        written: list[int] = []
        monkeypatch.setattr(link, "record", lambda kind, body: written.append(kind))
        now = link.liveness.heard_at
        net.planes[0].transports.tick(now + liveness.PING_AFTER - 1)
        assert (transport.state, written) == ("UP", [])
        net.planes[0].transports.tick(now + liveness.PING_AFTER + 3)
        assert (transport.state, len(written)) == ("SUSPECT", 1)
        net.planes[0].transports.tick(now + liveness.DEAD_AFTER)
        await net.until(lambda: transport.link is not link)


async def test_route_errors_to_a_neighbour_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Net(2, seed=40) as net:
        (link,) = net.planes[0].transports.links()
        written: list[bytes] = []
        monkeypatch.setattr(link, "record", lambda kind, body: written.append(body))
        link.tick(link.liveness.heard_at)
        for number in range(liveness.ROUTE_ERRORS_PER_SECOND + 20):
            link.route_error(number, connection.ROUTE_ERROR_REASONS[0])
        assert len(written) == liveness.ROUTE_ERRORS_PER_SECOND


async def test_what_waits_to_be_written_for_others_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Net(2, seed=41) as net:
        (link,) = net.planes[0].transports.links()
        monkeypatch.setattr(connection, "TRANSIT_QUEUE", -1)
        assert not link.forward(memoryview(b"\x00\x01\x00\x00\x00\x01x"), 1)
        assert link.dropped == 1


async def test_neighbours_of_an_earlier_life_are_dialled_once_and_those_that_are_gone_forgotten() -> None:
    async with Net(2, seed=39) as net:
        near, far = net.planes
        (entry,) = near.transports.all
        near.transports.remove(entry)
        await net.until(lambda: not far.router.links)
        far.transports.all.clear()
        near.transports._removed.clear()  # as if it had never known the other
        gone = SecretKey.generate().public
        net.addresses[gone] = "127.0.0.1:1"
        entries = [Entry.between(net.keys[1], other, "tcp", True) for other in (net.keys[0], gone)]
        await far.transports.meet(entries)
        assert list(far.transports.all) == [entry]
        await net.until(lambda: entry in near.router.links and entry in far.router.links)
        assert not far.transports.all[entry].kept
        await far.transports.meet(entries)
        assert list(far.transports.all) == [entry]


async def test_a_connection_that_never_settles_is_closed_and_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "SETTLEMENT_SECONDS", 0.05)
    async with Net(1, seed=45) as net:
        own = net.planes[0].transports
        host, _, port = net.addresses[net.keys[0]].rpartition(":")
        before = asyncio.all_tasks()
        mute = Link(LinkHandshake(SecretKey.generate(), SecretKey.generate(), net.keys[0]), net.planes[0])
        await asyncio.get_running_loop().create_connection(lambda: mute, host, int(port))
        assert await mute.opened == net.keys[0]
        assert "did not settle in time" in await mute.lost
        await net.until(lambda: not own._pending)
        await net.until(lambda: asyncio.all_tasks() <= before)
