from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import plackett_luce
from tests.policy.enumeration import positions, slates

NEG = -np.inf
LOGITS = st.lists(st.one_of(st.floats(-12, 12), st.just(NEG)), min_size=1, max_size=6)


def weights_of(logits: list[float], temperature: float) -> list[float]:
    best = max(logits)
    return [math.exp((logit - best) / temperature) if logit > NEG else 0.0 for logit in logits]


@settings(deadline=None)
@given(LOGITS, st.integers(1, 5), st.floats(0.3, 3))
def test_marginals_agree_with_enumeration(logits: list[float], k: int, temperature: float) -> None:
    expected = positions(slates(weights_of(logits, temperature), k), len(logits), k)
    position, inclusion = plackett_luce.marginals(np.array([logits]), k, temperature)
    np.testing.assert_allclose(position[0], expected, atol=1e-9, rtol=0)
    np.testing.assert_allclose(inclusion[0], expected.sum(axis=1), atol=5e-9, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 10, 20, 35, 50])
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 10.0, 60.0])
def test_positions_sum_to_one(k: int, spread: float) -> None:
    logits = np.random.default_rng(k).standard_normal((3, 60)) * spread
    position, inclusion = plackett_luce.marginals(logits, k, 1.0)
    np.testing.assert_allclose(position.sum(axis=1), 1.0, atol=3e-10, rtol=0)
    assert inclusion.max() < 1 + 1e-8


SKEWED = st.lists(st.one_of(st.floats(-60, 60), st.floats(-3, 3), st.just(NEG)), min_size=1, max_size=6)
"""At temperature .1 and up: the heaviest weight is anything from a sixth to 1 - e^-1000 of all."""


@settings(deadline=None)
@given(SKEWED, st.integers(1, 5), st.floats(0.1, 3))
def test_skewed_weights_cost_no_accuracy(logits: list[float], k: int, temperature: float) -> None:
    expected = positions(slates(weights_of(logits, temperature), k), len(logits), k)
    if any(0 < weight < 1e-250 for weight in weights_of(logits, temperature)):
        return  # below what enumeration can tell from "not available"
    position, _ = plackett_luce.marginals(np.array([logits]), k, temperature)
    np.testing.assert_allclose(position[0], expected, atol=1e-7, rtol=0)
    np.testing.assert_allclose(position.sum(axis=1)[0, : min(k, sum(x > NEG for x in logits))], 1.0, atol=1e-9)


@pytest.mark.parametrize(("count", "k", "spread"), [(102, 10, 3.0), (300, 30, 1.0)])
def test_large_slates_agree_with_monte_carlo(count: int, k: int, spread: float) -> None:
    random, size = np.random.default_rng(count), 20_000
    logits = random.standard_normal((1, count)) * spread
    position, inclusion = plackett_luce.marginals(logits, k, 0.7)
    seen, within = np.zeros((count, k)), np.zeros(count)
    for _ in range(4):
        chosen = plackett_luce.sample(np.tile(logits, (size // 4, 1)), random.random((size // 4, count)), k, 0.7)
        for place in range(k):
            seen[:, place] += np.bincount(chosen[:, place], minlength=count)
        within += np.bincount(chosen.ravel(), minlength=count)
    assert np.abs(seen / size - position[0]).max() < 5 * math.sqrt(0.25 / size)
    error = np.sqrt(np.maximum(inclusion[0] * (1 - inclusion[0]), 1e-4) / size)
    assert np.abs((within / size - inclusion[0]) / error).max() < 5


@pytest.mark.parametrize("gap", [30.0, 300.0, 599.0])
def test_one_item_above_all_others(gap: float) -> None:
    """The case on which quadrature on a fixed range fails."""
    position, _ = plackett_luce.marginals(np.array([[gap, 0.0, 0.0, 0.0]]), 2, 1.0)
    np.testing.assert_allclose(position[0], [[1, 0], [0, 1 / 3], [0, 1 / 3], [0, 1 / 3]], atol=1e-9)


def test_fewer_available_than_positions() -> None:
    logits = np.array([[0.5, NEG, 0.1, NEG], [NEG, NEG, NEG, NEG], [1.0, 2.0, 3.0, 4.0]])
    position, _ = plackett_luce.marginals(logits, 4, 1.0)
    np.testing.assert_allclose(position.sum(axis=1), [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], atol=1e-9)
    assert (position[np.isneginf(logits)] == 0).all()


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(0, 8))
def test_chosen_columns_have_the_marginals_of_the_whole(seed: int, k: int, count: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.standard_normal((4, 20)) * 3
    logits[random.random((4, 20)) < 0.2] = NEG
    columns = np.stack([random.permutation(20)[:count] for _ in range(4)]).astype(np.int64).reshape(4, count)
    columns[random.random((4, count)) < 0.2] = -1
    whole, _ = plackett_luce.marginals(logits, k, 1.0)
    some, inclusion = plackett_luce.marginals(logits, k, 1.0, columns)
    expected = np.where((columns >= 0)[:, :, None], whole[np.arange(4)[:, None], columns], 0.0)
    np.testing.assert_allclose(some, expected, atol=1e-12, rtol=0)
    np.testing.assert_allclose(inclusion, expected.sum(axis=2), atol=1e-11, rtol=0)


def test_batching_changes_no_marginal() -> None:
    logits = np.random.default_rng(0).standard_normal((150, 40)) * 2
    whole, _ = plackett_luce.marginals(logits, 5, 0.5)
    single = np.concatenate([plackett_luce.marginals(row[None], 5, 0.5)[0] for row in logits[::10]])
    np.testing.assert_allclose(whole[::10], single, atol=1e-14, rtol=0)


@settings(deadline=None)
@given(LOGITS, st.integers(1, 6), st.floats(0.3, 3))
def test_chain_multiplies_to_the_probability_of_the_slate(logits: list[float], k: int, temperature: float) -> None:
    for slate, expected in slates(weights_of(logits, temperature), k).items():
        chosen = np.full((1, k), -1, dtype=np.int64)
        chosen[0, : len(slate)] = slate
        conditional = plackett_luce.chain(np.array([logits]), chosen, temperature)
        assert (conditional[0, len(slate) :] == 1).all()
        assert conditional.prod() == pytest.approx(expected, rel=1e-9)


def test_chain_keeps_digits_when_one_item_holds_all_weight() -> None:
    """Subtracting the first weight from the total would leave nothing of the others."""
    conditional = plackett_luce.chain(np.array([[100.0, 0.0, 0.0]]), np.array([[0, 1, 2]]), 1.0)
    np.testing.assert_allclose(conditional, [[1.0, 0.5, 1.0]])


def test_samples_have_the_probabilities_that_are_claimed() -> None:
    logits = [1.0, 0.0, NEG, 2.0, -1.0]
    gumbel = np.random.default_rng(5).random((60_000, 5))
    chosen = plackett_luce.sample(np.tile(logits, (60_000, 1)), gumbel, 2, 0.7)
    expected = slates(weights_of(logits, 0.7), 2)
    counts = dict.fromkeys(expected, 0)
    for slate in map(tuple, chosen.tolist()):
        counts[slate] += 1
    chi_square = sum((counts[s] - 60_000 * p) ** 2 / (60_000 * p) for s, p in expected.items())
    assert chi_square < 33  # 11 degrees of freedom: p = .0005


def test_sample_pads_and_skips_what_is_not_available() -> None:
    logits = np.array([[NEG, 1.0, NEG], [NEG, NEG, NEG], [1.0, 1.0, 1.0]])
    chosen = plackett_luce.sample(logits, np.full((3, 3), 0.5), 4, 1.0)
    assert chosen[0].tolist() == [1, -1, -1, -1]
    assert chosen[1].tolist() == [-1, -1, -1, -1]
    assert sorted(chosen[2].tolist()) == [-1, 0, 1, 2]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperature_is_named(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature"):
        plackett_luce.log_weights(np.zeros((1, 2)), temperature)


@pytest.mark.parametrize("logit", [math.nan, math.inf])
def test_bad_logit_is_named(logit: float) -> None:
    with pytest.raises(ValueError, match="logits"):
        plackett_luce.log_weights(np.array([[0.0, logit]]), 1.0)


@pytest.mark.parametrize("chosen", [[0, 0], [2, 0]])
def test_impossible_slates_are_refused(chosen: list[int]) -> None:
    with pytest.raises(ValueError, match="chosen"):
        plackett_luce.chain(np.array([[0.0, 0.0, NEG]]), np.array([chosen]), 1.0)


def test_bad_k_is_named() -> None:
    with pytest.raises(ValueError, match="k is 0"):
        plackett_luce.marginals(np.zeros((1, 2)), 0, 1.0)
