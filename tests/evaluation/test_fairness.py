"""Measures of fairness: by hand, with intervals that cover, and without the biases that they are to take out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

from evaluation.fairness import NONE, Fairness, Slates, measure, measured
from streams.contracts import Outcome
from tests import small

FLAT = np.ones(4)


def outcome(user: str, group: str | None, clicked: list[int], **changes: object) -> Outcome:
    items = [f"i{at}" for at in range(len(clicked))]
    told = {"user": user, "group": group, "rewards": [float(one) for one in clicked], "uniform": False}
    told |= {"inclusion": [0.5] * len(items), "item_groups": ["x", "y"] * (len(items) // 2), "steered": None}
    return replace(small.outcome(items), **(told | changes))


def test_rates_gaps_and_shares_by_hand() -> None:
    given = [
        outcome("a1", "a", [1, 1]),
        outcome("a2", "a", [1, 0]),
        outcome("b1", "b", [0, 1]),
        outcome("b2", "b", [0, 0]),
        outcome("a3", "a", [1, 0], uniform=True),
        outcome("b3", "b", [1, 0], uniform=True),
    ]
    found = measured(given, np.array([1.0, 0.5]))
    a, b = found.users
    assert (a.name, a.users, a.slates, a.uniform_slates) == ("a", 3, 3, 1)
    assert (a.served.value, b.served.value) == (0.75, 0.25)
    (gap,) = found.gaps
    assert (gap.served.value, gap.randomised.value, gap.beyond.value) == (0.5, 0, 0.5)
    assert gap.relative.value == pytest.approx(2 / 3)
    x, y = found.pairs[:2]
    assert (x.user, x.item, x.served.value) == ("a", "x", pytest.approx(2 / 3))
    assert x.merit.value == pytest.approx(3 / 5)  # clicks / (π η): 3 · 2 of x, 1 · 2 / .5 of y
    assert x.behind.value == pytest.approx(3 / 5 - 2 / 3)
    assert y.merit.value == pytest.approx(2 / 5)


def test_shown_items_are_weighted_by_how_unlikely_they_were() -> None:
    found = measured([outcome("u", "a", [1, 0], propensity=[0.2, 0.8])], FLAT)
    assert found.users[0].reweighted.value == pytest.approx(5 / (5 + 1.25))


def test_others_slates_tell_nothing_and_users_without_a_group_stand_apart() -> None:
    found = measured([outcome("u", None, [1, 0]), outcome("v", "a", [1, 1], origin="external")], FLAT)
    assert [one.name for one in found.users] == [NONE]
    assert found.gaps == []
    with pytest.raises(ValueError, match="no outcome"):
        measure(Slates())


def test_one_user_is_no_sample() -> None:
    found = measured([outcome("u", "a", [1, 0])] * 50, FLAT)
    assert math.isnan(found.users[0].served.low)


def test_what_is_given_up_is_measured_on_slates_left_alone() -> None:
    given = [outcome(f"s{at}", "a", [1, 0, 1, 0], steered=True) for at in range(4)]
    given += [outcome(f"h{at}", "a", [1, 1, 1, at % 2], steered=False) for at in range(4)]
    cost = measured(given, FLAT).cost
    assert cost is not None
    assert (cost.steered.value, cost.alone.value) == (2, 3.5)
    assert cost.given_up.value == pytest.approx(1 - 2 / 3.5)
    assert measured(given[:4], FLAT).cost is None


def drawn(seed: int) -> Fairness:
    """Users differ: .3 and .2 on average, each with a rate of his own."""
    random = np.random.default_rng(seed)
    given = []
    for number in range(120):
        group = "ab"[number % 2]
        rate = random.beta(3, 7) if group == "a" else random.beta(2, 8)
        for _ in range(5):
            given.append(outcome(f"u{number}", group, (random.random(4) < rate).astype(int).tolist()))
    return measured(given, FLAT)


def test_intervals_cover_although_slates_of_a_user_are_alike() -> None:
    covered = relative = 0
    for seed in range(50):
        (gap,) = drawn(seed).gaps
        covered += gap.served.low <= 0.1 <= gap.served.high
        relative += gap.relative.low <= 1 / 3 <= gap.relative.high
    assert covered >= 0.86 * 50
    assert relative >= 0.86 * 50


def test_groups_without_end_are_not_all_listed() -> None:
    given = [outcome(f"u{number}", f"g{number % 40}", [1, 0]) for number in range(200)]
    assert len(measured(given, FLAT).users) <= 13
