"""The soak's verdict: growth is named, what the same work may take is not."""

from __future__ import annotations

from soak.churn import MORE_DESCRIPTORS, MORE_MEMORY, MORE_TASKS, Held

BEFORE = Held(100 << 20, 30, 12)


def test_what_the_same_work_may_take_is_no_growth() -> None:
    after = Held(BEFORE.memory + MORE_MEMORY, BEFORE.descriptors + MORE_DESCRIPTORS, BEFORE.tasks + MORE_TASKS)
    assert after.grown(BEFORE) == BEFORE.grown(after) == []


def test_growth_is_named() -> None:
    after = Held(BEFORE.memory + MORE_MEMORY + 1, BEFORE.descriptors + MORE_DESCRIPTORS + 1, BEFORE.tasks)
    assert [said.split()[0] for said in after.grown(BEFORE)] == ["memory", "descriptors"]
    assert Held(0, 0, BEFORE.tasks + MORE_TASKS + 1).grown(BEFORE) == [f"tasks 12 -> {13 + MORE_TASKS}"]
