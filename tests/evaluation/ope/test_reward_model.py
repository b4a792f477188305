"""The reward model: it finds what is there, shrinks what is not, and never sees what it predicts."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ope import reward_model
from evaluation.ope.reward_model import BUCKETS, INTERCEPT, Features, bucket, cross_fitted, fit, folds


def categorical(*columns: np.ndarray) -> Features:
    parts = [np.full(len(columns[0]), INTERCEPT), *(bucket(field, one) for field, one in enumerate(columns))]
    buckets = np.stack(parts, axis=1)
    return Features(buckets, np.ones(buckets.shape))


def test_logistic_weights_are_where_the_gradient_vanishes() -> None:
    """Against the condition itself: for each weight, Σ (r - p) x = penalty · weight."""
    random = np.random.default_rng(0)
    group = random.integers(0, 3, 3000)
    reward = (random.random(3000) < np.array([0.05, 0.2, 0.6])[group]).astype(float)
    model = fit(categorical(group), reward, logistic=True, penalty=2.0)
    predicted = model.expected(model.score(categorical(group)))
    assert (reward - predicted).sum() == pytest.approx(0, abs=0.05)
    for code in range(3):
        weight = model.weights[bucket(0, np.array([code]))[0]]
        assert (reward - predicted)[group == code].sum() == pytest.approx(2 * weight, abs=0.05)


def test_ridge_is_ridge() -> None:
    random = np.random.default_rng(1)
    value = random.standard_normal((500, 2))
    reward = 3 + value @ np.array([2.0, -1.0]) + random.standard_normal(500)
    buckets = np.broadcast_to(np.array([INTERCEPT, 7, 8]), (500, 3))
    features = Features(buckets, np.column_stack([np.ones(500), value]))
    model = fit(features, reward, logistic=False, penalty=5.0)
    design = features.values
    normal = design.T @ design + np.diag([0, 5.0, 5.0])
    assert model.weights[[INTERCEPT, 7, 8]] == pytest.approx(np.linalg.solve(normal, design.T @ reward), abs=1e-3)


def test_what_is_rare_stays_near_the_mean() -> None:
    reward = np.zeros(1000)
    reward[:51] = 1
    group = np.r_[0, np.ones(999, int)]  # the only round of group 0 was rewarded
    model = fit(categorical(group), reward, logistic=True)
    alone = model.expected(model.score(categorical(np.array([0]))))[0]
    assert 0.05 < alone < 0.3


def test_buckets_are_spread_and_leave_the_intercept_alone() -> None:
    codes = np.arange(20_000)
    both = np.r_[bucket(1, codes), bucket(2, codes)]
    assert both.min() > INTERCEPT and both.max() < BUCKETS
    assert len(np.unique(both)) > 0.9 * 40_000


def test_a_user_is_in_one_fold_and_his_rewards_are_not_seen() -> None:
    """Rewards that are noise, but the same in all rounds of a user, whose feature is there to be memorised."""
    random = np.random.default_rng(2)
    user = np.repeat(np.arange(200), 10)
    reward = (random.random(200) < 0.5).astype(float)[user]
    fold = folds(user)
    assert all(len(np.unique(fold[user == one])) == 1 for one in range(200))
    assert np.bincount(fold).min() >= 380
    features = categorical(user)
    models = cross_fitted(features, reward, fold)
    predicted = np.empty(len(user))
    for number, model in models.items():
        mine = fold == number
        predicted[mine] = model.expected(model.score(Features(features.buckets[mine], features.values[mine])))
    assert abs(np.corrcoef(predicted, reward)[0, 1]) < 0.25
    seen = fit(features, reward, logistic=True)
    assert np.corrcoef(seen.expected(seen.score(features)), reward)[0, 1] > 0.95


def test_one_user_cannot_be_predicted() -> None:
    with pytest.raises(ValueError, match="all rounds are of one user"):
        cross_fitted(categorical(np.zeros(9, int)), np.ones(9), folds(np.zeros(9, int)))
    assert reward_model.is_logistic(np.array([0, 0.5, 1]))
    assert not reward_model.is_logistic(np.array([0, 5.0]))
