"""Failures where there is one way only, or one link: no way left, a key used twice, floods of half-made connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.failures import CliError
from skywire_cli.testnet.plan import Link
from skywire_cli.testnet.process import Service
from skywire_cli.testnet.state import Kind
from skywire_common.errors import ErrorCode, Failure
from system.bed import AT_ONCE, LEASE, MB, Bed, bed, until

pytestmark = pytest.mark.system
LINE = (Link(0, 1), Link(1, 2))
PATIENCE = 6.0
BIG = 50 * MB
HALF_OPEN = 100
HANDSHAKE_SECONDS = 5.0
SLOW_RATE = 25_000.0  # bytes a second: 200 kbit/s
SLOW_SECONDS = 40


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Bed]:
    async with bed(3, LINE, setup_nodes=1, limits={"patience_s": PATIENCE}, buffers=64 * 1024) as made:
        yield made


@pytest.fixture
async def line(shared: Bed) -> Bed:
    """Three nodes in a line, whole again before each test; their loops are patient for 6 s."""
    await shared.whole()
    await shared.clean(LEASE + AT_ONCE)
    return shared


async def test_f2_without_another_way_both_apps_hear_why_and_what_arrived_is_a_prefix(line: Bed) -> None:
    transfer = line.send(0, 2, BIG)
    await transfer.until_got(BIG // 4)
    await line.nodes[1].kill()

    async def heard() -> bool:
        return (await transfer.got())["failure"] is not None

    await until(heard, PATIENCE + 20, "the destination hears that there is no route")
    async with asyncio.timeout(10):
        report = await transfer.done
    got = await transfer.got()
    assert got["right"] and not got["ended"] and got["received"] < BIG
    for said in (report["failure"], got["failure"]):
        assert Failure.parse(said).code in (ErrorCode.ROUTE_LOST, ErrorCode.UNAVAILABLE), said
    await line.clean()


async def test_f13_a_second_node_with_the_same_key_is_refused_and_the_first_one_stays(
    line: Bed, tmp_path: Path
) -> None:
    first = line.nodes[1]
    twin = Service("twin", Kind.NODE, "skywire_node", tmp_path, lambda: None)
    document = json.loads((first.directory / "config.json").read_text())
    document["interfaces"] = {
        "link": "127.0.0.1:0",
        "control": "127.0.0.1:0",
        "metrics": "127.0.0.1:0",
        "admin": str(line.apps[0].place.with_name("twin.sock")),
    }
    document |= {"local_path": str(tmp_path / "local"), "transports": [], "apps": []}
    twin.configure(document)
    pid = first.pid
    transfer = line.pulse(0, 2, 10_000, 0.02)
    await transfer.until_got(10_000)
    try:
        with suppress(CliError):  # it may be refused before it could say that it is ready
            await twin.start()

        async def refused() -> bool:
            return "DUPLICATE_IDENTITY" in twin.log

        async def ended() -> bool:
            return twin.state.process is None

        await until(refused, 15, "the second one is refused")
        await until(ended, 15, "the second one ends")
        assert "give this one a key of its own" in twin.log
        assert "Traceback" not in twin.log
    finally:
        await twin.kill()
    assert first.pid == pid and (await first.admin.summary()).state == "READY"
    await transfer.enough()
    report = await transfer.arrived()
    assert report["answer"]["gap"] < 2.0
    await line.clean()


@pytest.mark.parametrize("times", [8, pytest.param(1_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
async def test_f21_both_ends_dial_at_once_and_have_one_transport(line: Bed, times: int) -> None:
    one, other = line.nodes[0], line.nodes[2]
    for _ in range(times):
        dialled = await asyncio.gather(
            one.admin.add_transport(other.key, "tcp", False, other.interfaces["link"]),
            other.admin.add_transport(one.key, "tcp", False, one.interfaces["link"]),
            return_exceptions=True,
        )
        assert any(not isinstance(answer, BaseException) for answer in dialled), dialled

        async def agreed() -> bool:
            mine, theirs = await _between(line, 0, 2), await _between(line, 2, 0)
            up = mine is not None and theirs is not None and mine.state == theirs.state == "UP"
            return up and mine.dialled is not theirs.dialled and _connections(line, 0, 2) == 1

        await until(agreed, 10, "both ends have the same one connection")
        mine, theirs = await _between(line, 0, 2), await _between(line, 2, 0)
        assert mine.transport_id == theirs.transport_id
        await asyncio.gather(*(_remove(line, at, mine.transport_id) for at in (0, 2)))

        async def gone() -> bool:
            return _connections(line, 0, 2) == 0

        await until(gone, 10, "the connection is closed")


async def _remove(line: Bed, at: int, transport_id: bytes) -> None:

    try:
        await line.nodes[at].admin.remove_transport(UUID(bytes=transport_id))
    except Failure as failure:  # the other end was quicker, and one that nobody keeps goes with its link
        assert failure.code is ErrorCode.UNKNOWN_TRANSPORT, failure


async def _between(line: Bed, at: int, to: int) -> pb.Transport | None:
    found = await line.nodes[at].admin.transports(public_keys=[line.nodes[to].key])
    return found[0] if found else None


def _connections(line: Bed, one: int, other: int) -> int:
    """Count established connections between the link ports of two nodes, whoever dialled."""
    ports = {int(line.nodes[index].interfaces["link"].rpartition(":")[2]) for index in (one, other)}
    ends = [
        {end.laddr.port, end.raddr.port}
        for index in (one, other)
        for end in psutil.Process(line.nodes[index].pid).net_connections("tcp")
        if end.status == psutil.CONN_ESTABLISHED
    ]
    pairs = [tuple(sorted(pair)) for pair in ends]
    return sum(pairs.count(pair) == 2 for pair in set(pairs) if ports & {*pair})


async def test_f22_connections_that_never_finish_the_handshake_are_closed_and_packets_flow(line: Bed) -> None:
    host, _, port = line.nodes[1].interfaces["link"].rpartition(":")
    began = time.monotonic()
    idle = [await asyncio.open_connection(host, int(port)) for _ in range(HALF_OPEN)]
    try:
        await line.send(0, 2, BIG).arrived(BIG)
        async with asyncio.timeout(HANDSHAKE_SECONDS + 10):
            await asyncio.gather(*(_until_closed(reader) for reader, _ in idle))
    finally:
        for _, writer in idle:
            writer.close()
    assert time.monotonic() - began < HANDSHAKE_SECONDS + 10
    await line.clean()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    try:
        assert await reader.read() == b""  # nothing is said to who says nothing
    except ConnectionResetError:
        pass


@pytest.mark.slow
async def test_f20_a_link_that_is_silent_is_down_within_30_s_at_both_ends(line: Bed) -> None:
    cable = line.proxy(0, 1)
    cable.there.hold()
    cable.back.hold()

    async def down() -> bool:
        return (await _between(line, 0, 1)).state == (await _between(line, 1, 0)).state == "DOWN"

    await until(down, 35, "both ends see the link down")
    cable.mend()


@pytest.mark.slow
async def test_f20_a_link_that_is_slow_but_busy_is_never_taken_for_dead() -> None:
    async with bed(3, LINE, setup_nodes=1, buffers=64 * 1024) as line:
        cable = line.proxy(0, 1)
        cable.there.rate = cable.back.rate = SLOW_RATE
        states, reroutes, resent = set(), 0, 0
        size = int(SLOW_RATE * SLOW_SECONDS)
        transfer = line.send(0, 2, size)
        while not transfer.done.done():
            states |= {(await _between(line, 0, 1)).state, (await _between(line, 1, 0)).state}
            for loop in await line.nodes[0].admin.loops():
                reroutes, resent = max(reroutes, loop.reroutes), max(resent, loop.bytes_resent)
            await asyncio.sleep(0.5)
        await transfer.arrived(size)
        assert states == {"UP"} and cable.connected == 1
        assert not reroutes and resent < size / 2, (reroutes, resent)
        cable.mend()
        await line.clean()
