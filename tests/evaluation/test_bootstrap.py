"""Intervals on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.bootstrap import Difference, differences


def gains(random: np.random.Generator, users: int, events: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Arm a is better than b by .1 on average, by another amount for each user, for all of his events."""
    owner = np.repeat(np.arange(users), events)
    shift = 0.1 + 0.2 * random.standard_normal(users)
    base = random.random(len(owner))
    return owner, {"a": base + shift[owner] + 0.05 * random.standard_normal(len(owner)), "b": base}


def of(found: list[Difference], a: str, b: str) -> Difference:
    (one,) = [one for one in found if (one.a, one.b) == (a, b)]
    return one


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    held = 0
    for trial in range(120):
        owner, values = gains(random, 60, 8)
        one = of(differences(values, owner, replicates=200, seed=trial), "a", "b")
        held += one.low <= 0.1 <= one.high
    assert 0.89 <= held / 120 <= 0.99


def test_users_are_drawn_and_not_events() -> None:
    """A user's events are alike: as single events they would be taken for eight times as much evidence."""
    owner, values = gains(np.random.default_rng(2), 60, 8)
    by_user = of(differences(values, owner), "a", "b")
    by_event = of(differences(values, np.arange(len(owner))), "a", "b")
    assert (by_user.high - by_user.low) > 2 * (by_event.high - by_event.low)


def test_arms_are_compared_on_the_same_draws() -> None:
    """What both arms have in common drops out of their difference: here all but a constant."""
    random = np.random.default_rng(3)
    base = random.random(400)
    one = of(differences({"a": base + 0.25, "b": base}, np.repeat(np.arange(50), 8)), "a", "b")
    assert (one.difference, one.low, one.high) == pytest.approx((0.25, 0.25, 0.25))


def test_both_directions_and_ratios() -> None:
    found = differences({"a": np.array([1.0, 1, 0, 1]), "b": np.array([0.5, 1, 0.5, 1])}, np.array([0, 1, 2, 1]))
    there, back = of(found, "a", "b"), of(found, "b", "a")
    assert there.difference == pytest.approx(0)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.ratio == pytest.approx(1)
    nothing = of(differences({"a": np.ones(2), "b": np.zeros(2)}, np.arange(2)), "a", "b")
    assert (nothing.difference, nothing.ratio, nothing.ratio_low) == (1, None, None)


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="bootstrap of 0 events"):
        differences({"a": np.empty(0)}, np.empty(0, np.int64))
    with pytest.raises(ValueError, match="bootstrap of 2 events"):
        differences({"a": np.ones(2), "b": np.ones(3)}, np.arange(2))
