"""Exchanged neighbours: what is said of a slate is the probability of what is published, going through every case."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import mixture
from policy.pins import Pins
from policy.slate import PolicyConfig, arrange, noise, published_marginals, redecide
from tests.policy.enumeration import positions, slates

NEG = -np.inf
LOGITS = st.lists(st.one_of(st.floats(-12, 12), st.just(NEG)), min_size=1, max_size=5)
Slates = dict[tuple[int, ...], float]


def published(logits: list[float], k: int, temperature: float, epsilon: float, share: float) -> Slates:
    """Probability of every published slate: every draw of either arm, left alone or with each pair of neighbours."""
    best = max(logits)
    softmax = slates([math.exp((x - best) / temperature) if x > NEG else 0.0 for x in logits], k)
    uniform = slates([float(x > NEG) for x in logits], k)
    found: Slates = defaultdict(float)
    for slate in softmax:
        probability, pairs = (1 - epsilon) * softmax[slate] + epsilon * uniform[slate], len(slate) - 1
        if pairs < 1:
            found[slate] += probability
            continue
        found[slate] += (1 - share) * probability
        for at in range(pairs):
            other = [*slate[:at], slate[at + 1], slate[at], *slate[at + 2 :]]
            found[tuple(other)] += share * probability / pairs
    return found


def conditionals(found: Slates, slate: tuple[int, ...]) -> list[float]:
    prefixes = [sum(p for other, p in found.items() if other[:n] == slate[:n]) for n in range(len(slate) + 1)]
    return [later / before for before, later in itertools.pairwise(prefixes)]


@settings(deadline=None, max_examples=60)
@given(
    LOGITS, st.integers(1, 5), st.floats(0.3, 3), st.sampled_from([0.0, 0.02, 1.0]), st.sampled_from([0.02, 0.5, 1.0])
)
def test_chain_and_marginals_agree_with_enumeration(
    logits: list[float], k: int, temperature: float, epsilon: float, share: float
) -> None:
    found = published(logits, k, temperature, epsilon, share)
    assert sum(found.values()) == pytest.approx(1.0)
    row = np.array([logits])
    for slate, probability in list(found.items())[:: max(1, len(found) // 6)]:
        chosen = np.full((1, k), -1, dtype=np.int64)
        chosen[0, : len(slate)] = slate
        conditional, log_probability = mixture.chain(row, chosen, temperature, epsilon, share)
        assert math.exp(log_probability[0]) == pytest.approx(probability, rel=1e-7, abs=1e-300)
        if probability > 1e-12:
            np.testing.assert_allclose(conditional[0, : len(slate)], conditionals(found, slate), atol=1e-7)
        assert (conditional[0, len(slate) :] == 1).all()
    chosen = np.full((1, k), -1, dtype=np.int64)
    first = next(iter(found))
    chosen[0, : len(first)] = first
    position, inclusion = published_marginals(row, chosen, np.zeros((1, k), bool), temperature, epsilon, share)
    expected = positions(found, len(logits), k)
    np.testing.assert_allclose(position[0], expected, atol=1e-7)
    np.testing.assert_allclose(inclusion[0], expected.sum(axis=1), atol=1e-7)


CONFIG = PolicyConfig(
    k=4, candidates=6, injected=0, temperature=0.7, epsilon=0.1, seed=3, swaps=0.4, unshown_sample=2, beta=0.0
)
HASHES = np.random.default_rng(7).integers(0, 2**64, 6, dtype=np.uint64)
LOGIT_ROW = np.array([1.0, 0.2, -0.5, 0.9, 0.0, 0.4], np.float32)


def test_what_is_published_comes_as_often_as_is_said() -> None:
    size = 60_000
    config = dataclasses.replace(CONFIG, k=3, marginals=False)
    choice = redecide(config, np.tile(LOGIT_ROW, (size, 1)), np.tile(HASHES, (size, 1)), 0, np.arange(size))
    expected = published(LOGIT_ROW.tolist(), 3, 0.7, 0.1, 0.4)
    counts: Slates = defaultdict(float)
    for slate in map(tuple, choice.chosen.tolist()):
        counts[slate] += 1
    chi_square = sum((counts[s] - size * p) ** 2 / (size * p) for s, p in expected.items())
    assert chi_square < 119 + 4 * math.sqrt(2 * 119)  # 119 degrees of freedom
    assert abs((choice.swapped[:, 0] >= 0).mean() - 0.4) < 0.01
    assert set(map(tuple, choice.swapped.tolist())) == {(-1, -1), (0, 1), (1, 2)}


def test_an_exchange_is_of_the_draw_that_would_have_been_and_replays_however_batched() -> None:
    size = 400
    logits, items = np.tile(LOGIT_ROW, (size, 1)), np.tile(HASHES, (size, 1))
    without = redecide(dataclasses.replace(CONFIG, swaps=0.0), logits, items, 1, np.arange(size))
    choice = redecide(CONFIG, logits, items, 1, np.arange(size))
    for row, (first, second) in enumerate(choice.swapped.tolist()):
        shown = without.chosen[row].tolist()
        if first >= 0:
            shown[first], shown[second] = shown[second], shown[first]
        assert choice.chosen[row].tolist() == shown
    assert np.array_equal(np.sort(without.chosen, axis=1), np.sort(choice.chosen, axis=1))
    part = slice(13, 400, 7)
    again = redecide(CONFIG, logits[part], items[part], 1, np.arange(size)[part])
    assert again.conditional.tobytes() == np.ascontiguousarray(choice.conditional[part]).tobytes()
    assert np.array_equal(again.swapped, choice.swapped[part])


def test_around_pinned_positions_only_what_was_drawn_changes_places() -> None:
    size = 4000
    logits, items = np.tile(LOGIT_ROW, (size, 1)), np.tile(HASHES, (size, 1))
    pinned = np.tile(np.array([-1, 5, -1, -1]), (size, 1))
    choice = arrange(CONFIG, logits, items, noise(CONFIG, 0, np.arange(size)), None, pinned)
    assert (choice.chosen[:, 1] == 5).all() and (choice.propensity is not None)
    assert set(map(tuple, choice.swapped.tolist())) == {(-1, -1), (0, 2), (2, 3)}
    assert (choice.propensity[:, 1] == 1).all() and (choice.conditional[:, 1] == 1).all()
    position, inclusion = published_marginals(logits, choice.chosen, choice.pinned, 0.7, 0.1, 0.4)
    np.testing.assert_allclose(position.sum(axis=1), 1.0, atol=1e-9)
    rows = np.arange(size)[:, None]
    np.testing.assert_allclose(choice.propensity, position[rows, choice.chosen, np.arange(4)], atol=1e-9)
    assert choice.inclusion is not None
    np.testing.assert_allclose(choice.inclusion, inclusion[rows, choice.chosen], atol=1e-9)
    seen = np.stack([np.bincount(choice.chosen[:, place], minlength=6) for place in range(4)], axis=1) / size
    np.testing.assert_allclose(seen, position[0], atol=4 * math.sqrt(0.25 / size))
    left = Pins.of(pinned[:1], logits[:1], 4).others(logits[:1])[0].tolist()
    expected = published(left, 3, 0.7, 0.1, 0.4)
    for row in range(10):
        slate = tuple(np.delete(choice.chosen[row], 1).tolist())
        assert math.exp(choice.log_probability[row]) == pytest.approx(expected[slate], rel=1e-7)


@pytest.mark.parametrize("gap", [30.0, 300.0, 500.0])
def test_one_item_above_all_others(gap: float) -> None:
    """It comes second only when it is exchanged, and then something else was drawn after it."""
    logits, share = np.array([[gap, 0.0, 0.0, 0.0]]), 0.1
    conditional, _ = mixture.chain(logits, np.array([[1, 0, 2]]), 1.0, 0.0, share)
    np.testing.assert_allclose(conditional[0], [share / 2 / 3, 1.0, 0.5], rtol=1e-9)


def test_no_exchange_of_fewer_than_two() -> None:
    config = dataclasses.replace(CONFIG, swaps=1.0)
    logits = np.full((2, 6), NEG, np.float32)
    logits[0, 2] = 1.0
    choice = redecide(config, logits, np.tile(HASHES, (2, 1)), 0, np.arange(2))
    assert choice.swapped.tolist() == [[-1, -1], [-1, -1]]
    assert choice.conditional.tolist() == [[1.0] * 4] * 2


def test_bad_share_is_named() -> None:
    with pytest.raises(ValueError, match=r"swaps is 1\.5, expected 0 to 1"):
        dataclasses.replace(CONFIG, swaps=1.5)
