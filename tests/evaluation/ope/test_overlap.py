"""Diagnostics of weights and the verdict: good ones pass, each kind of bad one is refused by its reason."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.ope import bandit
from evaluation.ope.overlap import SYMMETRIC, measure, symmetry


def rewards(size: int, rate: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(9).random(size) < rate).astype(float)


def test_weights_of_one_are_perfect() -> None:
    found = measure(np.ones(1000), rewards(1000), np.arange(1000), clip=20)
    assert (found.rounds, found.clusters, found.mean) == (1000, 1000, 1.0)
    assert found.effective == pytest.approx(1000)
    assert found.rewarded == pytest.approx(rewards(1000).sum())
    assert (found.largest, found.largest_share, found.clipped) == (1.0, 0.001, 0.0)
    assert found.refusals() == []


def test_the_effective_sample_is_of_users() -> None:
    weight = np.random.default_rng(0).exponential(size=1000)
    alone = measure(weight, rewards(1000), np.arange(1000), clip=2)
    assert alone.effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert alone.clipped == pytest.approx((weight > 2).mean())
    shared = measure(np.ones(1000), rewards(1000), np.arange(1000) // 50, clip=2)
    assert shared.effective == pytest.approx(20)
    uneven = measure(np.ones(1000), rewards(1000), np.minimum(np.arange(1000), 200), clip=2)
    assert uneven.effective == pytest.approx(201)


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (np.full(1000, 0.9) + np.random.default_rng(1).normal(0, 0.1, 1000), "excludes 1: propensities are wrong"),
        (np.ones(40), "the effective sample is 40.0, expected at least 50"),
        (np.r_[np.full(999, 0.75), 250.0], "25% of all weight is one unit's"),
        (np.r_[np.ones(500), np.ones(500)], ""),
    ],
)
def test_what_is_bad_is_said(weight: np.ndarray, reason: str) -> None:
    found = measure(weight, rewards(len(weight)), np.arange(len(weight)), clip=20).refusals()
    assert any(reason in one for one in found) if reason else found == []


def test_without_rewards_nothing_is_said() -> None:
    few = np.zeros(2000)
    few[:4] = 1
    (reason,) = measure(np.ones(2000), few, np.arange(2000), clip=20).refusals()
    assert reason == "estimates rest on 4.0 effective rewards, expected at least 5"


def test_what_is_no_weight_is_an_error() -> None:
    for bad in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="weight is negative or not finite"):
            measure(np.array([1.0, bad]), np.ones(2), np.arange(2), clip=2)


def test_symmetry_counts_rare_rewards_and_users() -> None:
    reward = np.zeros(10_000)
    reward[:30] = 1
    alone = symmetry(bandit.ips(np.ones(10_000), reward), np.arange(10_000))
    assert alone == pytest.approx(30, rel=0.02)
    assert alone > SYMMETRIC
    one_user = symmetry(bandit.ips(np.ones(10_000), reward), np.r_[np.zeros(20, int), np.arange(1, 9981)])
    assert one_user < 5
