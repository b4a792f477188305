"""Debiased rates of groups: unbiased where raw counts are not, bounded, forgetting, exact across their state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from policy.group_rates import MOST_GROUPS, GroupedSlate, GroupRates
from policy.slate import PolicyConfig, decide, noise

POLICY = PolicyConfig(k=5, candidates=20, neighbours=0, injected=0, temperature=0.5, epsilon=0.1, beta=0.0, seed=3)
EXAMINATION = 1 / (1.0 + np.arange(POLICY.k))
GROUP = np.arange(POLICY.candidates) % 2
CLICK = 0.5 + 0.06 * (np.arange(POLICY.candidates) // 2 - 4.5)  # of either group .5 on average
BASE = (np.where(GROUP == 0, 0.8, 0.0) + CLICK).astype(np.float32)


def slates(count: int, batch: int = 100) -> Iterator[GroupedSlate]:
    slots = np.tile(np.arange(POLICY.candidates), (batch, 1))
    for first in range(0, count, batch):
        made = decide(
            POLICY,
            slots,
            slots.astype(np.uint64),
            np.tile(BASE, (batch, 1)),
            np.zeros(slots.shape),
            noise(POLICY, 0, first + np.arange(batch)),
        )
        assert made.inclusion is not None
        for chosen, inclusion, uniform in zip(made.chosen, made.inclusion, made.uniform_arm, strict=True):
            clicked = EXAMINATION * CLICK[chosen]  # as many as are to be expected
            names = [f"g{group}" for group in GROUP[chosen]]
            yield GroupedSlate(
                "u", names, {"g0": 10, "g1": 10}, clicked, EXAMINATION, inclusion, True, bool(uniform), 7.0
            )


def plain(**changes: object) -> GroupedSlate:
    values: dict[str, object] = {
        "user": "u",
        "items": ["a", None, "b"],
        "candidates": {"a": 4, "b": 6},
        "clicked": np.array([1.0, 1.0, 0.0]),
        "examination": np.array([1.0, 0.5, 0.25]),
        "inclusion": np.array([0.5, 0.5, 0.25]),
        "steered": True,
    }
    return GroupedSlate(**(values | changes))  # type: ignore[arg-type]


def test_groups_that_are_liked_alike_have_one_rate_whichever_items_are_shown_and_where() -> None:
    rates, shown, clicks = GroupRates(half_life=1e9), np.zeros(2), np.zeros(2)
    for slate in slates(4000):
        rates.learn(slate)
        for name, clicked in zip(slate.items, slate.clicked, strict=True):
            at = rates.items.index(name or "")
            shown[at] += 1
            clicks[at] += clicked
    _, weight, _, worth, _ = rates.pairs[:, 0]
    debiased = worth / weight
    assert debiased.tolist() == pytest.approx([0.5, 0.5], rel=0.01)
    raw = clicks / shown
    assert raw[0] > 1.05 * raw[1]
    assert (raw / EXAMINATION.mean() > 1.03 * debiased).all()


def test_a_slates_sums_by_hand() -> None:
    rates = GroupRates()
    rates.learn(plain())
    assert (rates.users, rates.items, rates.slates.tolist()) == (["u"], ["a", "b"], [1.0])
    #  exposure, Σ 1/π, Σ 1/π², Σ click/(π η), candidates
    np.testing.assert_allclose(rates.pairs[:, 0], [[1, 0.25], [2, 4], [4, 16], [2, 0], [4, 6]])
    np.testing.assert_allclose(rates.arms, [[0, 0, 0, 0, 0], [1, 2, 1, 2, 4]])


def test_weights_are_bounded_and_what_is_no_chance_says_nothing_of_merit() -> None:
    rates = GroupRates()
    rates.learn(plain(inclusion=np.array([1e-9, 0.5, np.nan]), examination=np.array([1e-9, 0.5, 0.25])))
    np.testing.assert_allclose(rates.pairs[1:4, 0], [[20, 0], [400, 0], [400, 0]])
    assert rates.pairs[0, 0, 1] == 0.25  # seen it was


def test_what_is_old_counts_half_after_the_half_life() -> None:
    rates = GroupRates(half_life=10)
    rates.learn(plain(steered=False))
    for _ in range(10):
        rates.learn(plain(user="v"))
    assert rates.slates[0] == pytest.approx(0.5)
    assert rates.arms[0].tolist() == pytest.approx([0.5, 1.0, 0.25, 0.5, 1.0])


def test_slates_of_the_uniform_arm_are_no_comparison() -> None:
    rates = GroupRates()
    rates.learn(plain(uniform=True))
    assert not rates.arms.any()
    assert rates.slates.tolist() == [1]


def test_a_slate_without_groups_is_no_slate() -> None:
    rates = GroupRates()
    rates.learn(plain(candidates={}, items=[]))
    assert (rates.users, rates.slates.tolist()) == (["u"], [0.0])


def test_names_without_end_take_no_more_room() -> None:
    rates = GroupRates()
    for number in range(3 * MOST_GROUPS):
        rates.learn(plain(user=f"u{number}", candidates={"a": 1, f"g{number}": 1}))
    assert (len(rates.users), len(rates.items)) == (MOST_GROUPS, MOST_GROUPS)


def test_going_on_from_a_state_is_going_on() -> None:
    given = list(slates(300))
    whole, parts = GroupRates(50), GroupRates(50)
    for at, slate in enumerate(given):
        whole.learn(slate)
        if at in (0, 1, 100):
            parts = GroupRates.from_state(parts.state())
        parts.learn(slate)
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, parts.state()[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"users": ["u", "u"]}, "users holds 2 names"),
        ({"pairs": [1.0]}, "pairs holds 1 numbers"),
        ({"slates": [float("nan")]}, "slates"),
        ({"half_life": 0}, "half_life"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(change: dict[str, object], words: str) -> None:
    rates = GroupRates()
    rates.learn(plain())
    with pytest.raises(ValueError, match=words):
        GroupRates.from_state(rates.state() | change)
