"""Whose clock the doctor calls wrong, of those that it read at once."""

from __future__ import annotations

import pytest
from skywire_cli.doctor.clocks import MOST_DIFFERENCE_S, Clock, wrong

EDGE = MOST_DIFFERENCE_S


@pytest.mark.parametrize(
    ("discovery", "setup_node", "node", "said"),
    [
        (0.0, 0.0, 0.0, {}),
        (0.0, 0.0, EDGE, {}),
        (0.0, 0.0, 90.0, {"node": "90 s ahead of"}),
        (600.0, 600.0, 0.0, {"node": "600 s behind"}),
        # Whoever asks is wrong: of those who are asked nobody is.
        (-3_600.0, -3_600.0, -3_601.0, {}),
        (-600.0, 0.0, 0.0, {"discovery": "600 s behind"}),
        (0.0, 600.0, 0.0, {"setup node": "600 s ahead of"}),
        # Nobody agrees with anybody: the one that all call is believed.
        (0.0, 600.0, -600.0, {"setup node": "600 s ahead of", "node": "600 s behind"}),
    ],
)
def test_the_one_that_differs_from_most_is_named(
    discovery: float, setup_node: float, node: float, said: dict[str, str]
) -> None:
    clocks = [Clock("discovery", "", discovery), Clock("setup node", "", setup_node), Clock("node", "", node)]
    assert {one.clock.who: one.how for one in wrong(clocks)} == said


def test_of_two_the_first_is_believed_and_of_one_nothing_is_said() -> None:
    two = [Clock("discovery", "", 0.0), Clock("node", "", -40.0)]
    (found,) = wrong(two)
    assert (found.clock.who, found.how, found.than) == ("node", "40 s behind", "discovery")
    assert list(wrong(two[1:])) == []
    assert list(wrong([])) == []
