"""Who may have which port."""

from __future__ import annotations

import pytest
from skywire_common.errors import ErrorCode, Failure, LocalError
from skywire_node.apps.ports import FIRST_FREE, Ports, check_configured, check_distinct


def test_a_port_has_one_app_and_the_error_names_both() -> None:
    ports = Ports(7)
    ports.bind(10, "helloworld")
    ports.bind(10, "helloworld")
    with pytest.raises(Failure, match=r"(?s)filecopy.*helloworld") as caught:
        ports.bind(10, "filecopy")
    assert caught.value.code is ErrorCode.CONFLICT
    ports.release(10)
    ports.bind(10, "filecopy")
    assert ports.bound() == {10: "filecopy"}


@pytest.mark.parametrize("port", [0, -1, 1, 2, 4, 9, FIRST_FREE, 65_535, 70_000])
def test_reserved_and_free_ports_cannot_be_configured(port: int) -> None:
    with pytest.raises(Failure):
        check_configured(port, "helloworld")


def test_reserved_ports_are_for_their_apps() -> None:
    for port, app in ((1, "chat"), (2, "ssh"), (3, "socksproxy")):
        check_configured(port, app)


def test_two_apps_that_want_one_port_are_both_named() -> None:
    check_distinct([("a", 0), ("b", 0), ("c", 10)])
    with pytest.raises(LocalError, match=r"chat and other"):
        check_distinct([("chat", 1), ("mid", 12), ("other", 1)])


@pytest.mark.parametrize("start", [0, 5, 16_383, 123_456_789])
def test_free_ports_start_anywhere_and_go_round(start: int) -> None:
    ports = Ports(start)
    given = [ports.free("a") for _ in range(20)]
    assert given[0] == FIRST_FREE + start % 16_384
    assert len(set(given)) == 20
    assert all(FIRST_FREE <= port <= 65_535 for port in given)


def test_free_ports_are_bounded() -> None:
    ports = Ports(9)
    given = [ports.free("a") for _ in range(16_384)]
    assert sorted(given) == list(range(FIRST_FREE, 65_536))
    with pytest.raises(Failure) as caught:
        ports.free("a")
    assert caught.value.fields.limit == "ports"
    ports.release(60_000)
    assert ports.free("b") == 60_000
    assert ports.owner(60_000) == "b"
