"""What is said of estimates: fair, poor and wider, refused and silent; and that nobody is surer than he can be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.ope import bandit, intervals
from evaluation.ope.ratio import mean
from evaluation.ope.report import Family, Settings, Weighted, judged, logged_value

SETTINGS = Settings(replicates=300)
RANDOM = np.random.default_rng(0)
USERS = np.arange(2000)


def said(weight: np.ndarray, reward: np.ndarray, settings: Settings = SETTINGS) -> Family:
    zero = np.zeros(len(weight))
    ratios = {
        "ips": bandit.ips(weight, reward),
        "clipped_ips": bandit.clipped_ips(weight, reward, 2.0),
        "direct": bandit.direct(zero),
    }
    family = Weighted("actions", "", weight[:, None], reward[:, None], ratios, {"clipped_ips": "ips"}, ("direct",))
    return judged(family, USERS[: len(weight)], settings)


def clicks(rate: float) -> np.ndarray:
    return (np.random.default_rng(1).random(2000) < rate).astype(float)


def test_a_fair_estimate_has_the_interval_of_the_level_asked_for() -> None:
    weight, reward = RANDOM.uniform(0.5, 1.5, 2000), clicks(0.2)
    ips = said(weight, reward).estimates[0]
    alone = intervals.bootstrap(bandit.ips(weight, reward), USERS, replicates=4000)
    assert ips.verdict == "fair"
    assert (ips.low, ips.high) == pytest.approx(alone, abs=2e-3)


def test_a_poor_one_has_a_fifth_of_the_failures() -> None:
    weight, reward = np.ones(2000), clicks(0.006)
    assert 5 < reward.sum() < 25
    ips = said(weight, reward, replace(SETTINGS, replicates=2000)).estimates[0]
    assert ips.verdict == "poor"
    wide, narrow = (
        intervals.bootstrap(bandit.ips(weight, reward), USERS, level, replicates=2000) for level in (0.99, 0.95)
    )
    assert (ips.low, ips.high) == pytest.approx(wide, rel=1e-6)
    assert wide.high > 1.1 * narrow.high


def test_the_difference_is_drawn_with_the_log() -> None:
    """Of a target that is the policy itself nothing is left, however rewards vary."""
    reward = clicks(0.3)
    ips = said(np.ones(2000), reward).estimates[0]
    assert ips.difference == pytest.approx(0.0, abs=1e-12)
    apart = said(RANDOM.uniform(0.9, 1.1, 2000), reward).estimates[0]
    assert apart.difference_high - apart.difference_low < 0.3 * (apart.high - apart.low)  # type: ignore[operator]
    assert said(np.ones(2000), reward, replace(SETTINGS, compare=False)).estimates[0].difference is None


def test_what_leaves_something_out_is_no_surer_and_a_model_alone_not_sure_at_all() -> None:
    weight, reward = RANDOM.choice([0.5, 3.0], 2000, p=[0.8, 0.2]), clicks(0.3)
    found = {one.name: one for one in said(weight, reward).estimates}
    ips, clipped = found["ips"], found["clipped_ips"]
    assert clipped.value < ips.value and clipped.biased and not ips.biased  # type: ignore[operator]
    assert clipped.low <= ips.low and clipped.high == ips.high  # type: ignore[operator]
    assert found["direct"].biased and found["direct"].value == 0.0 and found["direct"].low is None


def test_refused_is_silent_and_certain_needs_bounds_and_right_weights() -> None:
    wrong = said(np.full(2000, 0.5) + RANDOM.normal(0, 0.05, 2000), clicks(0.3))
    assert wrong.reasons and wrong.certain is None
    assert {(one.verdict, one.value, one.low, one.difference) for one in wrong.estimates} == {
        ("refused", None, None, None)
    }
    few = said(np.ones(30), clicks(0.3)[:30])
    assert few.reasons and few.certain is not None
    assert said(np.ones(2000), clicks(0.3), replace(SETTINGS, most=math.inf)).certain is None


def test_the_certain_interval_of_several_positions_is_of_their_sum() -> None:
    weight, reward = np.ones((2000, 3)), np.column_stack([clicks(0.3)] * 3)
    family = Weighted("positions", "", weight, reward, {"ips": mean(weight * reward)})
    found = judged(family, USERS, SETTINGS)
    earned = logged_value(reward, USERS, SETTINGS)
    assert earned.value == pytest.approx(3 * clicks(0.3).mean())
    assert found.certain is not None
    assert 0 < found.certain.low < earned.value < found.certain.high < 3
