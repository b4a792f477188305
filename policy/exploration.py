"""How far from the best a slate may stray: a temperature for each user, a cap on what it costs, a budget for the new.

Arrays only: a row is one slate, a column one candidate. Knows nothing of users' histories or of items, only of how
unsure one is of a row, and which columns are new.

The cap. Draws without replacement are softmax draws from what is left. Let the values be the logits themselves, and
E_j the softmax mean of the row without its best j - 1. Whatever j - 1 others are gone, what is left has a softmax mean
of at least E_j: it is got by putting, for items, others that are at least as good as the best of the rest, and that
raises a softmax mean. So the sum over positions of (the j-th best - E_j) bounds the expected loss of a slate against
the greedy one. It needs no enumeration and no marginals, and grows with the temperature.

The budget. After any k - 1 draws the weight of what is not new is at least that of all but the k - 1 heaviest. A bonus
that keeps the new ones' share of that sum within the budget at every position keeps their expected number in a slate
within budget × k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy.plackett_luce import Floats, log_weights

Floats32 = NDArray[np.float32]

STEPS = 8
"""Halvings of the range of log-temperature in the search: the result lies within 1% of the highest that is allowed."""
COLDEST = 0.05
"""A temperature is lowered at most to this share of itself."""


def temperatures(temperature: float, unsure: Floats, most: float) -> Floats:
    """A temperature for each row, float64 [B]: from `temperature` for the sure, 0, to `most` times it, for 1."""
    return temperature * (1 + (most - 1) * np.clip(unsure, 0.0, 1.0))


def loss_bound(logits: Floats32, k: int, temperature: Floats) -> Floats:
    """Bound of the expected loss against the greedy slate, in logits a position, float64 [B].

    `logits` [B, C], -inf where there is no candidate; `temperature` [B]. The loss of the Plackett-Luce draw: what the
    uniform arm costs does not depend on the temperature.
    """
    return _loss(*_best_first(logits), k, temperature)


def capped(logits: Floats32, k: int, temperature: Floats, most: float) -> Floats:
    """The temperatures [B], lowered where the loss bound exceeds `most`, down to COLDEST of themselves."""
    values, available = _best_first(logits)
    over = np.flatnonzero(_loss(values, available, k, temperature) > most)
    if not len(over):
        return temperature
    values, available = values[over], available[over]
    low, high = np.full(len(over), np.log(COLDEST)), np.zeros(len(over))
    for _ in range(STEPS):
        middle = (low + high) / 2
        allowed = _loss(values, available, k, temperature[over] * np.exp(middle)) <= most
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
    result = temperature.copy()
    result[over] *= np.exp(low)
    return result


def bonus(logits: Floats32, newness: Floats32, k: int, temperature: Floats, most: float, budget: float) -> Floats32:
    """What is added for new items, float32 [B, C]: at most `most` × newness, and within the budget.

    `newness` [B, C] 0 to 1, 0 for what is known well. `budget`: the new ones' expected share of the positions that the
    bonus may bring them to; where they have it without, nothing is added.
    """
    new = (newness > 0) & np.isfinite(logits)
    if not new.any():
        return np.zeros(logits.shape, np.float32)
    weights = np.exp(log_weights(logits, temperature))
    fresh = np.where(new, weights, 0.0).sum(axis=1)
    others = np.where(new, 0.0, weights)
    places = max(0, others.shape[1] - (k - 1))  # what is left of the others in the worst case
    rest = np.partition(others, places - 1, axis=1)[:, :places].sum(axis=1) if places else np.zeros(len(others))
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = temperature * np.log(budget / (1 - budget) * rest / fresh)
    added = np.clip(np.nan_to_num(allowed, nan=0.0, neginf=0.0, posinf=0.0), 0.0, most)
    return np.where(new, added[:, None] * newness, 0).astype(np.float32)


def _best_first(logits: Floats32) -> tuple[Floats, NDArray[np.bool_]]:
    """The rows in descending order, relative to their best, float64 [B, C], 0 where there is none; and where one is."""
    ordered = -np.sort(-logits.astype(np.float64), axis=1)
    available = np.isfinite(ordered)
    ordered = np.where(available, ordered, 0.0)
    return np.where(available, ordered - ordered[:, :1], 0.0), available


def _loss(values: Floats, available: NDArray[np.bool_], k: int, temperature: Floats) -> Floats:
    weights = np.where(available, np.exp(np.maximum(values / temperature[:, None], -600.0)), 0.0)
    shown = available[:, :k]
    left = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1][:, :k]
    worth = np.cumsum((weights * values)[:, ::-1], axis=1)[:, ::-1][:, :k]
    lost = np.where(shown, values[:, :k] - worth / np.where(shown, left, 1.0), 0.0).sum(axis=1)
    return np.asarray(lost / np.maximum(shown.sum(axis=1), 1))
