from __future__ import annotations

import numpy as np
import pytest

from policy.calibration import MOST, PRIOR, mix, term
from policy.plackett_luce import Floats


def softmax(logits: np.ndarray) -> Floats:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def divergence(past: Floats, shown: Floats) -> Floats:
    """KL(past ‖ shown) of each row, where the past has something."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(past > 0, past * np.log(past / np.maximum(shown, 1e-12)), 0).sum(axis=1)


def test_mix_divides_a_thing_among_its_categories() -> None:
    categories = np.array([[[0, 1], [2, 3], [3, 3]]])  # 3: none
    assert mix(np.array([[1.0, 3.0, 9.0]]), categories, 3).tolist() == [[0.125, 0.125, 0.75]]


def test_for_items_of_one_category_full_strength_reaches_the_past_mix() -> None:
    random = np.random.default_rng(0)
    rows, columns, events = 30, 40, 4000
    logits = (0.2 * random.normal(size=(rows, columns))).astype(np.float32)  # no ratio is clipped
    categories = random.integers(0, 4, (rows, columns, 1)).astype(np.int32)
    past = random.choice(4, (rows, events, 1), p=[0.4, 0.3, 0.2, 0.1]).astype(np.int32)
    temperature = random.uniform(0.3, 2, rows)
    added = term(logits, temperature, categories, past, np.ones(events), 1.0)
    shown = mix(softmax((logits + added) / temperature[:, None]), categories.astype(np.int64), 4)
    told = mix(np.ones((rows, events)), past.astype(np.int64), 4)
    reachable = np.array([len(set(categories[row, :, 0].tolist())) == 4 for row in range(rows)])
    assert reachable.sum() > 20
    np.testing.assert_allclose(shown[reachable], told[reachable], atol=2 * PRIOR / events)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
def test_the_divergence_from_the_past_falls(strength: float) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(200, 60)).astype(np.float32)
    categories = np.sort(random.integers(-1, 5, (200, 60, 2)), axis=2)[:, :, ::-1].astype(np.int32)
    past = random.integers(0, 5, (200, 12, 1)).astype(np.int32)
    temperature = np.full(200, 0.5)
    added = term(logits, temperature, categories, past, np.ones(12), strength)
    numbered = np.where(categories < 0, 5, categories).astype(np.int64)
    told = mix(np.ones((200, 12)), past.astype(np.int64), 5)
    before, after = (
        divergence(told, mix(softmax(scores / 0.5), numbered, 5)).mean() for scores in (logits, logits + added)
    )
    assert after < before
    assert np.abs(added).max() <= strength * 0.5 * MOST + 1e-6


def test_nothing_is_added_without_a_past_or_a_category() -> None:
    logits = np.array([[1.0, 0.0, -np.inf]], np.float32)
    here = np.array([[[0], [1], [-1]]], np.int32)
    none = np.full((1, 3, 1), -1, np.int32)
    assert not term(logits, np.ones(1), here, none, np.ones(3), 1.0).any()
    assert not term(logits, np.ones(1), np.full((1, 3, 1), -1, np.int32), none + 1, np.ones(3), 1.0).any()
