"""Pairs of routes that a loop went away from: the last ones, and not for long."""

from __future__ import annotations

from skywire_node.loops.loop_setup import LEFT_SECONDS, MAX_LEFT, Left, Routes


def test_pairs_that_a_loop_went_away_from_are_bounded() -> None:
    left = Left()
    pairs = [Routes(bytes([number]) * 16, number, number) for number in range(1, MAX_LEFT + 4)]
    for number, routes in enumerate(pairs):
        left.add(routes, number / 10)
    assert left.lately(2.0) == pairs[-MAX_LEFT:]
    assert left.lately(LEFT_SECONDS + (len(pairs) - 1) / 10) == pairs[-1:]
