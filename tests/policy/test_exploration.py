from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import plackett_luce
from policy.exploration import bonus, capped, loss_bound, temperatures
from policy.plackett_luce import Floats
from tests.policy import enumeration


def expected_loss(logits: Floats, k: int, temperature: float) -> float:
    """Against the greedy slate, a position, by going through every slate."""
    there = np.isfinite(logits)
    slates = enumeration.slates(np.where(there, np.exp(np.where(there, logits, 0) / temperature), 0).tolist(), k)
    best = np.sort(logits[there])[::-1][:k]
    return sum(p * (best.sum() - logits[list(slate)].sum()) for slate, p in slates.items()) / len(best)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(0.05, 5.0), st.floats(0.1, 4.0))
def test_no_slate_is_expected_to_lose_more_than_the_bound(seed: int, k: int, temperature: float, spread: float) -> None:
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(1, 6)) * spread).astype(np.float32)
    logits[0, random.random(6) < 0.2] = -np.inf
    if not np.isfinite(logits).any():
        return
    bound = loss_bound(logits, k, np.array([temperature]))[0]
    loss = expected_loss(logits[0].astype(np.float64), k, temperature)
    assert -1e-9 <= loss <= bound + 1e-6
    if k == 1:
        assert loss == pytest.approx(bound, abs=1e-6)


def test_the_cap_lowers_the_temperature_of_the_rows_that_lose_too_much_and_as_little_as_it_can() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(50, 30)).astype(np.float32)
    hot = random.uniform(0.05, 3, 50)
    cap = 0.6
    lowered = capped(logits, 5, hot, cap)
    before, after = loss_bound(logits, 5, hot), loss_bound(logits, 5, lowered)
    assert (before > cap).any()
    assert (before < cap).any()
    assert (after <= np.maximum(cap, 0) + 1e-9).all()
    assert np.array_equal(lowered[before <= cap], hot[before <= cap])
    over = before > cap
    assert (loss_bound(logits, 5, lowered * 1.03)[over] > cap).all()


def test_temperature_grows_with_doubt_between_its_bounds() -> None:
    assert temperatures(0.4, np.array([0.0, 0.5, 1.0, 7.0]), 1.5).tolist() == pytest.approx([0.4, 0.5, 0.6, 0.6])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.floats(0.02, 0.6))
def test_what_the_bonus_brings_new_items_to_stays_within_the_budget(seed: int, k: int, budget: float) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(1, 7)).astype(np.float32)
    newness = np.where(random.random((1, 7)) < 0.4, random.random((1, 7)), 0).astype(np.float32)
    temperature = np.array([random.uniform(0.2, 2)])
    added = bonus(logits, newness, k, temperature, 3.0, budget)
    assert (added[newness == 0] == 0).all()
    assert (added <= 3.0 * newness + 1e-6).all()
    assert (added >= 0).all()
    _, inclusion = plackett_luce.marginals(logits + added, k, temperature)
    if added.any():
        assert inclusion[0, newness[0] > 0].sum() <= budget * k + 1e-6


def test_new_items_get_more_where_there_is_room_and_nothing_where_they_have_it() -> None:
    known, new = np.zeros((1, 30), np.float32), np.zeros((1, 30), np.float32)
    known[0, :2] = -3
    new[0, :2] = 1
    temperature = np.array([1.0])
    share = plackett_luce.marginals(known, 5, temperature)[1][0, :2].sum() / 5
    raised = known + bonus(known, new, 5, temperature, 5.0, 0.1)
    lifted = plackett_luce.marginals(raised, 5, temperature)[1][0, :2].sum() / 5
    assert share < 0.01
    assert 0.05 < lifted <= 0.1
    assert not bonus(known, 1 - new, 5, temperature, 5.0, 0.1).any()


def test_rows_without_candidates_are_left_alone() -> None:
    nothing = np.full((2, 4), -np.inf, np.float32)
    temperature = np.array([0.3, 0.4])
    assert np.array_equal(capped(nothing, 2, temperature, 0.1), temperature)
    assert not bonus(nothing, np.ones((2, 4), np.float32), 2, temperature, 1.0, 0.1).any()
