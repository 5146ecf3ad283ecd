"""Records: whole, byte by byte, many in one read, and what breaks a stream."""

from __future__ import annotations

import random

import pytest
from skywire_common.errors import LinkError, LocalError
from skywire_common.noise import Cipher
from skywire_common.packet import Packet
from skywire_node.link.records import LENGTH_SIZE, MAX_BODY, Kind, RecordReader, RecordWriter

RANDOM = random.Random(20)
KEY = RANDOM.randbytes(32)


def written() -> tuple[RecordWriter, list[bytes]]:
    records: list[bytes] = []
    return RecordWriter(Cipher(KEY), lambda record: records.append(bytes(record))), records


def read(reader: RecordReader, data: bytes, step: int) -> list[tuple[int, bytes]]:
    got = []
    while data:
        space = reader.space()
        part = data[: min(step, len(space))]
        space[: len(part)] = part
        data = data[len(part) :]
        got += [(kind, bytes(body)) for kind, body in reader.advance(len(part))]
    return got


@pytest.mark.parametrize("step", [1, 7, 1000, 65_536, 1 << 20])
def test_what_was_written_is_read_however_it_is_cut(step: int) -> None:
    writer, records = written()
    packets = [
        Packet(RANDOM.randrange(1, 1 << 32), RANDOM.randbytes(RANDOM.randrange(3000))).encode() for _ in range(60)
    ]
    for packet in packets[:40]:
        writer.packets(memoryview(packet))
    writer.record(Kind.PING, b"12345678")
    for packet in packets[40:]:
        writer.packets(memoryview(packet))
    writer.flush()
    got = read(RecordReader(Cipher(KEY)), b"".join(records), step)
    assert b"".join(body for kind, body in got if kind == Kind.PACKETS) == b"".join(packets)
    assert [body for kind, body in got if kind == Kind.PING] == [b"12345678"]


def test_small_packets_share_one_record() -> None:
    writer, records = written()
    for _ in range(100):
        writer.packets(memoryview(Packet(5, b"x" * 64).encode()))
    writer.flush()
    writer.flush()
    assert len(records) == 1


def test_a_slot_is_a_packet_in_place() -> None:
    writer, records = written()
    writer.slot(7, 5)[:] = b"hello"
    writer.slot(8, 0)
    writer.flush()
    assert read(RecordReader(Cipher(KEY)), records[0], 1 << 20) == [
        (Kind.PACKETS, Packet(7, b"hello").encode() + Packet(8, b"").encode())
    ]


def test_the_largest_packet_fills_a_record_of_its_own() -> None:
    writer, records = written()
    writer.slot(1, 10)
    largest = MAX_BODY - 6
    writer.slot(2, largest)
    writer.slot(3, 10)
    writer.flush()
    assert [len(record) - LENGTH_SIZE for record in records] == [1 + 16 + 16, 65_535, 1 + 16 + 16]
    with pytest.raises(LocalError):
        writer.slot(4, largest + 1)


def test_packets_that_do_not_fit_beside_others_go_into_the_next_record() -> None:
    writer, records = written()
    half = Packet(1, bytes(MAX_BODY // 2)).encode()
    for _ in range(3):
        writer.packets(memoryview(half))
    largest = Packet(2, bytes(MAX_BODY - 6)).encode()
    writer.packets(memoryview(largest))
    writer.flush()
    assert [len(record) - LENGTH_SIZE - 1 - 16 for record in records] == [*3 * [len(half)], MAX_BODY]
    got = read(RecordReader(Cipher(KEY)), b"".join(records), 1 << 20)
    assert [body for _, body in got] == [half, half, half, largest]


def test_what_came_behind_the_handshake_is_read_first() -> None:
    writer, records = written()
    writer.record(Kind.PONG, b"early")
    writer.record(Kind.PONG, b"late")
    reader = RecordReader(Cipher(KEY), records[0] + records[1][:5])
    assert [bytes(body) for _, body in reader.advance(0)] == [b"early"]
    assert [body for _, body in read(reader, records[1][5:], 3)] == [b"late"]


@pytest.mark.parametrize("broken", ["flip", "short", "replay", "swap"])
def test_a_stream_that_is_tampered_with_ends_the_link(broken: str) -> None:
    writer, records = written()
    writer.record(Kind.PING, b"one")
    writer.record(Kind.PING, b"two")
    one, two = records
    data = {
        "flip": one[:-1] + bytes((one[-1] ^ 1,)),
        "short": b"\x00\x10" + bytes(16),
        "replay": one + one,
        "swap": two + one,
    }[broken]
    with pytest.raises(LinkError):
        read(RecordReader(Cipher(KEY)), data, 1 << 20)


def test_neither_payload_nor_route_id_is_on_the_wire() -> None:
    writer, records = written()
    writer.packets(memoryview(Packet(0xDEADBEEF, b"the payload that nobody sees").encode()))
    writer.flush()
    assert b"payload" not in records[0]
    assert bytes.fromhex("deadbeef") not in records[0]


def test_buffered_bytes_of_an_incomplete_record_are_bounded() -> None:
    reader = RecordReader(Cipher(KEY))
    space = reader.space()
    space[:2] = b"\xff\xff"
    assert list(reader.advance(2)) == []
    for _ in range(65_534):
        assert list(reader.advance(1)) == []
        assert len(reader.space()) > 0
