from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import mixture
from tests.policy.enumeration import positions, slates

NEG = -np.inf
LOGITS = st.lists(st.one_of(st.floats(-6, 6), st.just(NEG)), min_size=1, max_size=5)


def mixed(logits: list[float], k: int, temperature: float, epsilon: float) -> dict[tuple[int, ...], float]:
    best = max(logits)
    softmax = slates([math.exp((x - best) / temperature) if x > NEG else 0.0 for x in logits], k)
    uniform = slates([float(x > NEG) for x in logits], k)
    return {slate: (1 - epsilon) * softmax[slate] + epsilon * uniform[slate] for slate in softmax}


@settings(deadline=None)
@given(LOGITS, st.integers(1, 5), st.floats(0.3, 3), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_chain_and_marginals_agree_with_enumeration(
    logits: list[float], k: int, temperature: float, epsilon: float
) -> None:
    expected = mixed(logits, k, temperature, epsilon)
    for slate, probability in expected.items():
        chosen = np.full((1, k), -1, dtype=np.int64)
        chosen[0, : len(slate)] = slate
        conditional, log_probability = mixture.chain(np.array([logits]), chosen, temperature, epsilon)
        assert conditional.prod() == pytest.approx(probability, rel=1e-9)
        assert math.exp(log_probability[0]) == pytest.approx(probability, rel=1e-9)
        assert ((conditional > 0) & (conditional <= 1 + 1e-12)).all()
    position, inclusion = mixture.marginals(np.array([logits]), k, temperature, epsilon)
    by_enumeration = positions(expected, len(logits), k)
    np.testing.assert_allclose(position[0], by_enumeration, atol=1e-9, rtol=0)
    np.testing.assert_allclose(inclusion[0], by_enumeration.sum(axis=1), atol=5e-9, rtol=0)


def test_samples_have_the_probabilities_that_are_claimed() -> None:
    logits, epsilon, size = [2.0, 0.0, NEG, 1.0], 0.3, 60_000
    random = np.random.default_rng(11)
    chosen, uniform_arm = mixture.sample(
        np.tile(logits, (size, 1)), random.random((size, 4)), random.random(size), 2, 0.5, epsilon
    )
    assert abs(uniform_arm.mean() - epsilon) < 0.01
    expected = mixed(logits, 2, 0.5, epsilon)
    seen = [tuple(slate) for slate in chosen.tolist()]
    chi_square = sum((seen.count(s) - size * p) ** 2 / (size * p) for s, p in expected.items())
    assert chi_square < 25  # 5 degrees of freedom: p = .0001


def test_the_uniform_arm_gives_a_floor() -> None:
    logits = np.array([[50.0, 0.0, 0.0, NEG]])
    position, inclusion = mixture.marginals(logits, 1, 0.5, 0.03)
    np.testing.assert_allclose(position[0, :, 0], [0.98, 0.01, 0.01, 0.0], atol=1e-9)
    some, _ = mixture.marginals(logits, 1, 0.5, 0.03, np.array([[3, -1, 1]]))
    np.testing.assert_allclose(some[0, :, 0], [0.0, 0.0, 0.01], atol=1e-9)
    assert inclusion.sum() == pytest.approx(1.0)
