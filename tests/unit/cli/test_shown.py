"""Messages as plain values: every field by its name, bytes as hex, rules read."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from uuid import UUID

import pytest
from skywire.common.v1 import common_pb2
from skywire.node.v1 import node_admin_pb2 as pb
from skywire_cli.output import age, counted, size
from skywire_cli.shown import path, plain, rule
from skywire_cli.target import DEFAULT_DIRECTORY, Target
from skywire_common.curve import SecretKey
from skywire_common.keys import Addr
from skywire_common.rules import AppRule, ForwardRule

RANDOM = random.Random(7)
KEY = SecretKey.generate().public


def test_every_field_is_there_and_json_can_hold_it() -> None:
    transport_id = UUID(bytes=RANDOM.randbytes(16))
    message = pb.Transport(transport_id=transport_id.bytes, remote=KEY, state="UP", queued=1 << 60)
    row = plain(message)
    assert list(row) == [field.name for field in pb.Transport.DESCRIPTOR.fields]
    assert (row["transport_id"], row["remote"]) == (str(transport_id), str(KEY))
    assert json.loads(json.dumps(row)) == row


def test_messages_lists_and_maps_within_are_plain_too() -> None:
    summary = pb.GetSummaryResponse(
        build=common_pb2.BuildInfo(public_key=KEY), reasons=["a", "b"], packets_dropped={"bad_tag": 2}
    )
    row = plain(summary)
    assert row["build"]["public_key"] == str(KEY)
    assert row["reasons"] == ["a", "b"]
    assert row["packets_dropped"] == {"bad_tag": 2}
    loop = pb.Loop(local=common_pb2.Addr(public_key=KEY, port=5))
    assert plain(loop)["local"] == {"public_key": str(KEY), "port": 5}


def test_rules_are_read() -> None:
    transport_id = UUID(bytes=RANDOM.randbytes(16))
    forward = pb.Rule(route_id=5, type="forward", encoded=ForwardRule(9, 0xABC, transport_id).encode())
    assert rule(forward)["next"] == f"00000abc over {transport_id}"
    assert rule(forward)["expiry"] == 9
    app = pb.Rule(route_id=6, type="app", encoded=AppRule(9, 7, Addr(KEY, 11), 12).encode())
    assert rule(app)["next"] == f"port 12, of {KEY}:11"
    assert "unreadable" in str(rule(pb.Rule(route_id=6, encoded=b"x"))["next"])


def test_path_is_the_nodes_in_order() -> None:
    keys = [SecretKey.generate().public for _ in range(3)]
    hops = [common_pb2.Hop(from_key=a, to_key=b) for a, b in itertools.pairwise(keys)]
    assert path(common_pb2.Path(hops=hops)) == " → ".join(key.short for key in keys)
    assert path(common_pb2.Path()) == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 30, "1.0 GiB"), (1 << 50, "1024.0 TiB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 01 s"), (7_500, "2 h 05 min"), (360_000, "100 h 00 min")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_one_is_no_plural() -> None:
    assert [counted(number, "transport") for number in (0, 1, 2)] == ["0 transports", "1 transport", "2 transports"]


def test_a_hint_names_the_node_that_was_asked() -> None:
    assert Target(None, None, DEFAULT_DIRECTORY).said == ""
    assert Target(None, 3, DEFAULT_DIRECTORY).said == " --node 3"
    assert Target(Path("/x.sock"), None, Path("/none")).said == " --socket /x.sock --dir /none"


def test_socket_is_what_was_named() -> None:
    assert Target(Path("/x.sock"), None, Path("/none")).admin_socket() == Path("/x.sock")
