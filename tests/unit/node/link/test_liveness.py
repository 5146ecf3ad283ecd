"""Whether a link lives, second by second."""

from __future__ import annotations

from skywire_node.link.liveness import DEAD_AFTER, PING_AFTER, ROUTE_ERRORS_PER_SECOND, Due, Liveness


def test_silence_is_pinged_again_and_again_and_ends_the_link() -> None:
    link = Liveness(1000.0)
    seen = {second: due for second in range(1, 26) if (due := link.look(1000.0 + second)) is not Due.NOTHING}
    assert seen == {PING_AFTER: Due.PING, PING_AFTER + 5: Due.PING, PING_AFTER + 10: Due.PING, DEAD_AFTER: Due.END}


def test_any_byte_counts_as_life() -> None:
    link = Liveness(0.5)
    assert link.look(PING_AFTER + 1) is Due.PING
    link.heard_at = PING_AFTER + 1
    assert all(link.look(PING_AFTER + 1 + second) is Due.NOTHING for second in range(int(PING_AFTER)))


def test_complaints_are_bounded_between_two_looks() -> None:
    link = Liveness(0.0)
    for _ in range(2):
        assert sum(link.may_complain() for _ in range(ROUTE_ERRORS_PER_SECOND + 9)) == ROUTE_ERRORS_PER_SECOND
        link.look(1.0)
