"""Which connections may take a descriptor, and what is said while none may."""

from __future__ import annotations

from skywire_node.link.descriptors import RESERVE, SAID_FOR, Descriptors


def test_the_last_descriptors_are_not_for_links() -> None:
    limit = 100
    descriptors = Descriptors(lambda: limit)
    assert descriptors.admits(99 - RESERVE, 0.0) and descriptors.admits(-1, 0.0)
    assert descriptors.reason(0.0) == ""
    assert not descriptors.admits(100 - RESERVE, 5.0)
    assert "limit 100" in descriptors.reason(5.0 + SAID_FOR)
    assert descriptors.reason(5.1 + SAID_FOR) == ""
    assert descriptors.refused == 1


def test_a_process_without_a_limit_has_room() -> None:
    assert Descriptors(lambda: -1).admits(1 << 20, 0.0)
