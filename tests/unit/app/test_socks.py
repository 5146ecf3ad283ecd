"""SOCKS5 as bytes: whole, byte by byte, with trailing data, and any bytes at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_apps import exit_wire, socks
from skywire_apps.exit_wire import Answer, Code, Do, Request
from skywire_apps.socks import Command, Login, SocksRequest, Status, Target
from skywire_common.errors import DecodeError
from skywire_common.keys import MAX_PORT

Parser = Callable[[bytes], tuple[Any, int] | None]

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5}){1,3}", fullmatch=True)
hosts = st.one_of(names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda one: str(one).split("%")[0]))
targets = st.builds(Target, hosts, st.integers(0, 65535))

MESSAGES: list[tuple[Parser, bytes, Any]] = [
    (socks.parse_greeting, b"\5\1\0", frozenset({0})),
    (socks.parse_greeting, b"\5\2\0\2", frozenset({0, 2})),
    (socks.parse_greeting, b"\5\0", frozenset()),
    (socks.parse_login, b"\1\3bob\6secret", Login(b"bob", b"secret")),
    (socks.parse_login, b"\1\0\0", Login(b"", b"")),
    (socks.parse_request, b"\5\1\0\1\x7f\0\0\1\0P", SocksRequest(1, Target("127.0.0.1", 80))),
    (socks.parse_request, b"\5\3\0\3\x0bExample.org\1\xbb", SocksRequest(3, Target("example.org", 443))),
    (socks.parse_request, b"\5\1\0\3\x0a127.0.0.10\0P", SocksRequest(1, Target("127.0.0.10", 80))),
    (socks.parse_request, b"\5\1\0\4" + bytes(15) + b"\1\0P", SocksRequest(1, Target("::1", 80))),
]


@pytest.mark.parametrize(("parse", "data", "value"), MESSAGES)
def test_messages_whole_in_pieces_and_with_more_behind(parse: Parser, data: bytes, value: Any) -> None:
    for size in range(len(data)):
        assert parse(data[:size]) is None
    assert parse(data) == (value, len(data))
    assert parse(data + b"GET /") == (value, len(data))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\4\1\0P\x7f\0\0\1\0"])
def test_other_protocols_are_refused_by_the_first_byte(data: bytes) -> None:
    for parse in (socks.parse_greeting, socks.parse_login, socks.parse_request):
        with pytest.raises(DecodeError):
            parse(data[:1])


@pytest.mark.parametrize("data", [b"\5\1\0\2aaaaaaaa", b"\5\1\0\3\0\0P", b"\5\1\0\3\3a b\0P", b"\5\1\0\3\2\xff\xff\0P"])
def test_addresses_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        socks.parse_request(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_more_needed_a_value_or_an_error(data: bytes) -> None:
    for parse in (socks.parse_greeting, socks.parse_login, socks.parse_request):
        try:
            found = parse(data)
        except DecodeError:
            continue
        assert found is None or 0 < found[1] <= min(len(data), socks.MAX_MESSAGE)
        assert found is not None or len(data) < socks.MAX_MESSAGE
    for whole in (socks.parse_datagram, socks.parse_packed, exit_wire.decode_request, exit_wire.decode_answer):
        try:
            whole(data)
        except DecodeError:
            continue


@given(targets, st.binary(max_size=100))
def test_targets_and_datagrams_are_read_back(target: Target, payload: bytes) -> None:
    assert socks.parse_packed(socks.pack(target, payload)) == (target, payload)
    assert socks.parse_datagram(socks.encode_datagram(target, payload)) == (target, payload)
    request = b"\5" + bytes((Command.CONNECT, 0)) + socks.encode_target(target)
    assert socks.parse_request(request + payload) == (SocksRequest(Command.CONNECT, target), len(request))


def test_fragments_are_refused() -> None:
    with pytest.raises(DecodeError):
        socks.parse_datagram(b"\0\0\1" + socks.pack(Target("1.1.1.1", 1), b""))


def test_replies() -> None:
    assert socks.encode_reply(Status.DENIED) == b"\5\2\0\1" + bytes(6)
    assert socks.encode_reply(Status.OK, Target("::1", 80)) == b"\5\0\0\4" + bytes(15) + b"\1\0P"
    assert socks.encode_choice(socks.Method.NO_ACCEPTABLE) == b"\5\xff"
    assert (socks.encode_verdict(True), socks.encode_verdict(False)) == (b"\1\0", b"\1\1")


@given(st.sampled_from(Do), hosts, st.integers(1, 65535))
def test_requests_of_an_exit_are_read_back(do: Do, host: str, port: int) -> None:
    for request in (Request(do, host, port), Request(do)):
        encoded = exit_wire.encode(request)
        assert exit_wire.head_size(encoded[:2]) == len(encoded) - 2
        assert exit_wire.decode_request(encoded[2:]) == request


def test_answers_of_an_exit_are_checked() -> None:
    for answer in (Answer(ok=True, host="::1", port=9), Answer(ok=False, error="no", code=Code.DENIED)):
        assert exit_wire.decode_answer(exit_wire.encode(answer)[2:]) == answer
    for body in (b"", b"[]", b"{}", b'{"do":"connect","host":"a b","port":1}', b'{"do":"connect","host":"a","port":0}'):
        with pytest.raises(DecodeError):
            exit_wire.decode_request(body)
        with pytest.raises(DecodeError):
            exit_wire.decode_answer(body)


def test_the_port_of_an_answer_is_bounded() -> None:
    for port in (0, MAX_PORT):
        assert exit_wire.decode_answer(exit_wire.encode(Answer(ok=True, port=port))[2:]).port == port
    for port in (-1, MAX_PORT + 1):
        with pytest.raises(DecodeError, match="port"):
            exit_wire.decode_answer(exit_wire.encode(Answer(ok=True, port=port))[2:])


def test_a_head_is_bounded() -> None:
    with pytest.raises(DecodeError):
        exit_wire.head_size((exit_wire.MAX_HEAD + 1).to_bytes(2, "big"))
    told = exit_wire.encode(Answer(ok=False, error="x" * (exit_wire.MAX_ERROR + 1), code=Code.FAILED, host="h" * 300))
    answer = exit_wire.decode_answer(told[2:])
    assert (len(answer.error), len(answer.host)) == (exit_wire.MAX_ERROR, exit_wire.MAX_NAME)
