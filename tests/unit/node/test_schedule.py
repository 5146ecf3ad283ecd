"""Which set-up the routing table looks at next."""

from __future__ import annotations

import random

from skywire_node.routing.leases import Setup
from skywire_node.routing.schedule import MAX_DEAD, Schedule


def made(schedule: Schedule, live: dict[bytes, Setup], number: int, due: float) -> Setup:
    setup = Setup(number.to_bytes(16), (number,), due)
    live[setup.key] = setup
    schedule.add(setup)
    return setup


def test_what_is_due_first_comes_first_and_what_is_gone_is_passed_over() -> None:
    live: dict[bytes, Setup] = {}
    schedule = Schedule(live)
    assert schedule.next_due is None
    rng = random.Random(1)
    setups = [made(schedule, live, number, rng.uniform(0, 100)) for number in range(50)]
    hastened = setups[7]
    schedule.hasten(hastened, -1.0)
    schedule.hasten(hastened, 50.0)
    assert schedule.next_due == hastened.due == -1.0, "hastened, never put off"
    del live[hastened.key]
    assert schedule.next_due == min(setup.due for setup in live.values())
    popped = []
    while (setup := schedule.pop(60.0)) is not None:
        popped.append(setup)
    assert popped == sorted((one for one in live.values() if one.due <= 60), key=lambda one: one.due)


def test_overdue_ones_are_told_and_stay() -> None:
    live: dict[bytes, Setup] = {}
    schedule = Schedule(live)
    for number in range(50):
        made(schedule, live, number, float(number * 37 % 50))
    assert sorted(setup.due for setup in schedule.overdue(9.0)) == [float(number) for number in range(10)]
    assert len(schedule) == 50
    assert list(Schedule({}).overdue(9.0)) == []


def test_entries_of_gone_set_ups_is_bounded() -> None:
    live: dict[bytes, Setup] = {}
    schedule = Schedule(live)
    for number in range(3 * MAX_DEAD):
        setup = made(schedule, live, number, 1e9 + number)
        del live[setup.key]
        schedule.compact()
    assert len(schedule) <= MAX_DEAD
    assert schedule.next_due is None
