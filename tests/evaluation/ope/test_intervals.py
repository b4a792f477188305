"""Intervals: against closed forms, and that users, skewness and clipping are taken into account."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evaluation.ope import bandit, intervals
from evaluation.ope.ratio import Ratio, mean


def test_of_a_mean_it_is_the_one_sample_t_interval() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    low, high = intervals.student(mean(values), np.arange(200))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_the_error_of_a_ratio_is_that_of_the_estimate_over_many_samples() -> None:
    random = np.random.default_rng(1)
    weight = random.exponential(size=(2000, 300))
    reward = (random.random((2000, 300)) < 0.1 * weight).astype(float)
    ratios = [bandit.snips(*one) for one in zip(weight, reward, strict=True)]
    spread = np.std([one.value for one in ratios])
    errors = [intervals.standard_error(one, np.arange(300)) for one in ratios[:300]]
    assert np.mean(errors) == pytest.approx(spread, rel=0.05)


def test_rounds_of_one_user_are_not_taken_for_independent() -> None:
    values = np.random.default_rng(2).standard_normal(100)
    repeated, user = np.repeat(values, 9), np.repeat(np.arange(100), 9)
    once = intervals.standard_error(mean(values), np.arange(100))
    assert intervals.standard_error(mean(repeated), user) == pytest.approx(once)
    assert intervals.standard_error(mean(repeated), np.arange(900)) == pytest.approx(once / 3, rel=0.01)
    for studentised in (True, False):
        alone = intervals.bootstrap(mean(values), np.arange(100), studentised=studentised)
        assert intervals.bootstrap(mean(repeated), user, studentised=studentised) == pytest.approx(alone, rel=1e-6)


def test_the_bootstrap_error_is_the_standard_error_of_what_was_drawn() -> None:
    """The fast form by cross products, for ratios over several positions, against the plain one."""
    random = np.random.default_rng(3)
    ratio = Ratio(random.random((50, 3)), random.uniform(0.5, 1.5, (50, 3)))
    times = random.integers(0, 3, (4, 50))
    for row, found in zip(times, intervals._errors(ratio, times.astype(float), 50), strict=True):
        at = np.repeat(np.arange(50), row)
        drawn = Ratio(ratio.numerator[at], ratio.denominator[at])
        influence = drawn.influence()  # each round a cluster of its own
        plain = math.sqrt(50 / 49 * float(influence @ influence)) / len(at)
        assert found == pytest.approx(plain)


def test_the_studentised_bootstrap_reaches_further_where_values_are_skewed() -> None:
    values = np.random.default_rng(4).lognormal(sigma=1.5, size=300)
    t, b = intervals.student(mean(values), np.arange(300)), intervals.bootstrap(mean(values), np.arange(300))
    centre = float(values.mean())
    assert b.high - centre > 1.2 * (t.high - centre)
    assert centre - b.low < t.high - centre


def test_many_clusters_are_put_together_without_changing_the_interval() -> None:
    values = np.random.default_rng(5).standard_normal(60_000)
    bootstrapped = intervals.bootstrap(mean(values), np.arange(60_000), replicates=400)
    assert bootstrapped == pytest.approx(intervals.student(mean(values), np.arange(60_000)), abs=1.2e-3)


def test_drawing_kinds_is_drawing_users() -> None:
    """Rewards and weights of few values: as many draws of each as of users who are told apart by a trifle."""
    random = np.random.default_rng(10)
    weight, reward = random.choice([0.5, 1.5], 400), (random.random(400) < 0.2).astype(float)
    user = np.arange(400)
    alike = intervals.bootstrap(bandit.snips(weight, reward), user, replicates=8000)
    apart = intervals.bootstrap(bandit.snips(weight + 1e-9 * user, reward), user, replicates=8000)
    assert alike == pytest.approx(apart, abs=2e-3)
    assert alike != apart


def test_the_same_seed_gives_the_same_interval() -> None:
    values = mean(np.random.default_rng(6).random(50))
    assert intervals.bootstrap(values, np.arange(50)) == intervals.bootstrap(values, np.arange(50))
    assert intervals.bootstrap(values, np.arange(50)) != intervals.bootstrap(values, np.arange(50), seed=1)


def test_bernstein_is_its_formula_and_pays_for_what_clipping_may_lose() -> None:
    random = np.random.default_rng(7)
    weight, reward = random.choice([0.5, 1.5], 5000), (random.random(5000) < 0.1).astype(float)
    found = intervals.bernstein(weight, reward, np.arange(5000), clip=2)
    logarithm, gained = math.log(2 * 3 / 0.05), weight * reward

    def off(values: np.ndarray) -> float:
        return math.sqrt(2 * values.var(ddof=1) * logarithm / 5000) + 7 * 2 * logarithm / (3 * 4999)

    assert found.low == pytest.approx(max(gained.mean() - off(gained), 0))
    assert found.high == pytest.approx(gained.mean() + off(gained) + 1 - (weight.mean() - off(weight)))
    harder = intervals.bernstein(weight, reward, np.arange(5000), clip=1)
    assert harder.high > found.high + 0.2  # a quarter of the weight may be lost, wherever the rewards are


def test_bernstein_covers_where_rare_weights_fool_the_others() -> None:
    """A hundredth of the rounds has most of the weight and all of the reward: often none is seen."""
    covered = {"bernstein": 0, "bootstrap": 0}
    for seed in range(60):
        random = np.random.default_rng(seed)
        rare = random.random(150) < 0.005
        weight, reward = np.where(rare, 100.0, 0.5 / 0.995), rare.astype(float)
        user = np.arange(150)
        held = intervals.bernstein(weight, reward, user, clip=10)
        covered["bernstein"] += held.low <= 0.5 <= held.high
        drawn = intervals.bootstrap(bandit.ips(weight, reward), user, replicates=200)
        covered["bootstrap"] += drawn.low <= 0.5 <= drawn.high
    assert covered["bernstein"] == 60
    assert covered["bootstrap"] < 45


def test_bernstein_knows_users_and_wants_bounded_rewards() -> None:
    random = np.random.default_rng(8)
    weight, reward = np.ones(400), (random.random(400) < 0.3).astype(float)
    alone = intervals.bernstein(weight, reward, np.arange(400), clip=1)
    shared = intervals.bernstein(weight, reward, np.arange(400) // 20, clip=1)
    assert shared.high - shared.low > 2 * (alone.high - alone.low)
    with pytest.raises(ValueError, match=r"expected \[0, 1\.0\]"):
        intervals.bernstein(weight, reward + 1, np.arange(400), clip=1)
