"""What an exit allows: the lists, the ranges that are never reached by accident, and names."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skywire_apps.access import MAX_ENTRIES, SPECIAL, Access, Entry, is_special, parse_target, show_target
from skywire_apps.listener import parse_listen
from skywire_common.errors import DecodeError

PUBLIC = Access()
PLAIN = ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"]
PLAIN += ["255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1"]
# IPv6 addresses that stand for IPv4 ones: mapped, NAT64, 6to4, compatible.
STANDING = ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1"]


@pytest.mark.parametrize("text", [*PLAIN, *STANDING])
def test_special_addresses_are_denied_unless_an_entry_means_them(text: str) -> None:
    address = ip_address(text)
    assert is_special(address)
    assert not PUBLIC.allows("", address, 80)
    assert not PUBLIC.allows("a.name.that.points.there", address, 80)
    assert not Access.parse(["0.0.0.0/0", "::/0", "public"], []).allows("", address, 80)
    assert not Access.parse(["*.example.org"], []).allows("example.com", address, 80)
    meant = [text] if text in PLAIN else ["127.0.0.0/8", "10.0.0.0/8"]
    assert Access.parse(meant, []).allows("", address, 80)


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(text: str) -> None:
    assert PUBLIC.allows("", ip_address(text), 1)
    assert not Access.parse(["public:443"], []).allows("", ip_address(text), 80)
    assert not Access((), ()).allows("", ip_address(text), 80)


def test_deny_wins_and_ports_count() -> None:
    access = Access.parse(["public:80,443,8000-8999", "10.0.0.0/8:22"], ["8.8.8.0/24", "*.evil.example:443"])
    assert access.allows("", IPv4Address("1.1.1.1"), 8500)
    assert not access.allows("", IPv4Address("1.1.1.1"), 9000)
    assert access.allows("", IPv4Address("10.2.3.4"), 22)
    assert not access.allows("", IPv4Address("10.2.3.4"), 80)
    assert not access.allows("", IPv4Address("8.8.8.8"), 80)
    assert not access.allows("", IPv6Address("::ffff:8.8.8.8"), 80)
    assert not access.allows("www.evil.example", IPv4Address("1.1.1.1"), 443)
    assert access.allows("www.evil.example", IPv4Address("1.1.1.1"), 80)


def test_a_name_that_the_operator_gave_may_be_private() -> None:
    access = Access.parse(["nas.home:80", "[fd00::]/8:443"], [])
    assert access.allows("nas.home", IPv4Address("192.168.1.2"), 80)
    assert not access.allows("", IPv4Address("192.168.1.2"), 80)
    wild = Access.parse(["*.example.org"], [])
    assert wild.allows("www.example.org", IPv4Address("1.1.1.1"), 80)
    assert not wild.allows("www.example.org", IPv4Address("192.168.1.2"), 80), "whoever has the zone chose that"
    assert access.allows("", IPv6Address("fd00::2"), 443)


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "a b", "x:0", "x:70000", "x:2-1", "x:", "[::1]80", "*.", "a..b"])
def test_entries_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        Entry.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_an_entry_or_an_error(text: str) -> None:
    for parse in (Entry.parse, parse_target):
        try:
            parse(text)
        except DecodeError:
            continue


@given(st.ip_addresses(), st.integers(1, 65535))
def test_targets_are_read_back(address: IPv4Address | IPv6Address, port: int) -> None:
    if getattr(address, "scope_id", None) is None:
        assert parse_target(show_target(str(address), port)) == (str(address), port)


@given(st.sampled_from(SPECIAL), st.data())
def test_no_address_of_a_special_network_is_public(network: object, data: st.DataObject) -> None:
    assert not PUBLIC.allows("", data.draw(st.ip_addresses(network=network)), 80)  # type: ignore[arg-type]


def test_a_port_is_bounded() -> None:
    assert parse_target("a.example:65535") == ("a.example", 65535)
    assert parse_listen("a.example:65535") == ("a.example", 65535)
    assert parse_listen("a.example:0") == ("a.example", 0), "any that is free"
    with pytest.raises(DecodeError, match="is not HOST:PORT"):
        parse_target("a.example:0")
    for port in ("65536", "9" * 5_000, "", "+1"):
        for parse in (parse_target, parse_listen):
            with pytest.raises(DecodeError, match="is not HOST:PORT"):
                parse(f"a.example:{port}")
        with pytest.raises(DecodeError):
            Entry.parse(f"a.example:1-{port}")


def test_a_list_is_bounded() -> None:
    with pytest.raises(DecodeError):
        Access.parse(["public"] * (MAX_ENTRIES + 1), [])
