"""Estimators of one action a round: against their formulas by hand, and against a truth that is known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ope import bandit
from evaluation.ope.ratio import Ratio

WEIGHT = np.array([2.0, 0.5, 0.0, 4.0])
REWARD = np.array([1.0, 0.0, 1.0, 1.0])
PREDICTED = np.array([0.5, 0.25, 0.5, 0.75])
EXPECTED = np.array([0.4, 0.3, 0.2, 0.6])


def test_each_estimator_is_its_formula() -> None:
    assert bandit.ips(WEIGHT, REWARD).value == pytest.approx((2 + 0 + 0 + 4) / 4)
    assert bandit.snips(WEIGHT, REWARD).value == pytest.approx(6 / 6.5)
    assert bandit.clipped_ips(WEIGHT, REWARD, 3).value == pytest.approx((2 + 3) / 4)
    assert bandit.direct(EXPECTED).value == pytest.approx(1.5 / 4)
    residuals = 2 * 0.5 + 0.5 * -0.25 + 0 + 4 * 0.25
    assert bandit.doubly_robust(WEIGHT, REWARD, PREDICTED, EXPECTED).value == pytest.approx((1.5 + residuals) / 4)
    shrunk = [10 * 2 / 14, 10 * 0.5 / 10.25, 0, 10 * 4 / 26]
    residuals = shrunk[0] * 0.5 + shrunk[1] * -0.25 + shrunk[3] * 0.25
    assert bandit.dros(WEIGHT, REWARD, PREDICTED, EXPECTED, 10).value == pytest.approx((1.5 + residuals) / 4)


def test_shrinkage_goes_from_the_direct_method_to_doubly_robust() -> None:
    arguments = WEIGHT, REWARD, PREDICTED, EXPECTED
    assert bandit.dros(*arguments, 1e-12).value == pytest.approx(bandit.direct(EXPECTED).value)
    assert bandit.dros(*arguments, 1e12).value == pytest.approx(bandit.doubly_robust(*arguments).value)
    assert (bandit.shrunk(WEIGHT, 9) <= np.minimum(WEIGHT, 1.5) + 1e-12).all()


def test_shrinkage_goes_as_far_as_no_bias_shows() -> None:
    """Where the model is right everything may be shrunk away; where it is wrong only as far as noise hides."""
    random = np.random.default_rng(0)
    weight = np.exp(random.standard_normal(4000))
    reward, nothing, user = 1 + random.standard_normal(4000), np.zeros(4000), np.arange(4000)
    assert bandit.chosen_shrinkage(weight, reward, nothing + 1, nothing + 1, user) == bandit.SHRINKAGES[0]
    chosen = bandit.chosen_shrinkage(weight, reward, nothing, nothing, user)
    assert 1 < chosen < 1e5
    assert abs(bandit.dros(weight, reward, nothing, nothing, chosen).value - weight.mean()) < 0.25


def truth(size: int, seed: int) -> tuple[np.ndarray, ...]:
    """Contexts, actions by a softmax, rewards, and two policies; the value of the second is known."""
    random = np.random.default_rng(seed)
    rewards, scores = random.uniform(0.1, 0.9, (6, 5)), random.standard_normal((2, 6, 5))
    logging, target = (np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for one in scores)
    context = random.integers(0, 6, size)
    action = (logging[context].cumsum(axis=1) < random.random((size, 1))).sum(axis=1)
    reward = (random.random(size) < rewards[context, action]).astype(float)
    return context, action, reward, logging, target, rewards


def test_ips_snips_and_dr_find_the_value_and_dr_forgives_one_wrong_part() -> None:
    context, action, reward, logging, target, rewards = truth(200_000, 1)
    value = (target * rewards).sum(axis=1).mean()
    weight = target[context, action] / logging[context, action]
    assert abs(reward.mean() - value) > 0.03  # there is something to correct
    assert bandit.ips(weight, reward).value == pytest.approx(value, abs=0.01)
    assert bandit.snips(weight, reward).value == pytest.approx(value, abs=0.01)
    wrong = np.zeros_like(rewards)
    for model in (rewards, wrong):
        parts = reward, model[context, action], (target * model).sum(axis=1)[context]
        assert bandit.doubly_robust(weight, *parts).value == pytest.approx(value, abs=0.01)
    right = reward, rewards[context, action], (target * rewards).sum(axis=1)[context]
    assert bandit.doubly_robust(np.full(200_000, 1.0), *right).value == pytest.approx(value, abs=0.01)


def test_what_cannot_be_an_estimate_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        Ratio(np.ones((3, 1)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="not finite"):
        bandit.ips(np.array([1.0, np.inf]), np.ones(2))
