"""Plackett-Luce slates: draw them, and say with which probability each item is shown.

A slate of k is drawn without replacement, each position by a softmax over what is left (Plackett 1975, Luce 1959).
Arrays only: a row is one slate, a column one candidate, a logit of -inf means "not available". Knows nothing of
users, items or of where logits come from.

Weights are exp(logit / temperature) relative to the row's best; a temperature is one number for all rows, or float64
[B], one for each. A weight below e^-600 of the best counts as e^-600, in sampling and in every
probability alike, so that nothing underflows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy import race

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Temperature = float | Floats

LOWEST_LOG_WEIGHT = -600.0


def log_weights(logits: NDArray[np.floating], temperature: Temperature) -> Floats:
    """logit / temperature, shifted so that each row's best is 0; float64 [B, C], -inf where not available.

    Raises ValueError for a temperature that is not positive, or a logit that is NaN or +inf.
    """
    if not (np.isfinite(temperature) & (np.asarray(temperature) > 0)).all():
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    scaled = logits.astype(np.float64) / np.atleast_1d(temperature)[:, None]
    best = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    if not (best < np.inf).all():
        raise ValueError("logits hold NaN or +inf, expected finite numbers, or -inf for 'not available'")
    shifted = scaled - np.where(np.isneginf(best), 0.0, best)
    return np.where(np.isneginf(scaled), -np.inf, np.maximum(shifted, LOWEST_LOG_WEIGHT))


def sample(logits: NDArray[np.floating], gumbel_uniforms: Floats, k: int, temperature: Temperature) -> Ints:
    """Draw a slate for each row by the Gumbel top-k trick (Kool et al. 2019): columns, int64 [B, k].

    `logits` [B, C]; `gumbel_uniforms` float64 [B, C] in (0, 1). Positions beyond what is available are -1.
    """
    _check_k(k)
    weights, keys = _perturbed(logits, gumbel_uniforms, temperature)
    chosen = np.full((len(weights), k), -1, dtype=np.int64)
    width = min(k, weights.shape[1])
    order = np.argsort(-keys, axis=1)[:, :width]
    available = np.isfinite(weights).sum(axis=1)
    chosen[:, :width] = np.where(np.arange(width) < available[:, None], order, -1)
    return chosen


def margin(logits: NDArray[np.floating], gumbel_uniforms: Floats, k: int, temperature: Temperature) -> Floats:
    """How far apart the two perturbed scores are that were nearest to changing the slate, float64 [B], in logits.

    Arguments as in `sample`. Logits that differ by less than half of it give the same slate. inf where nothing
    could change places.
    """
    _check_k(k)
    keys = np.sort(_perturbed(logits, gumbel_uniforms, temperature)[1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore"):
        gaps = keys[:, :-1] - keys[:, 1:]
    gaps = np.where(np.isnan(gaps), np.inf, gaps)[:, :k]
    return np.asarray(temperature * gaps.min(axis=1, initial=np.inf))


def _perturbed(
    logits: NDArray[np.floating], gumbel_uniforms: Floats, temperature: Temperature
) -> tuple[Floats, Floats]:
    """Log-weights, and the same with their Gumbel noise, [B, C] both."""
    weights = log_weights(logits, temperature)
    return weights, weights - np.log(-np.log(gumbel_uniforms))


def log_chain(logits: NDArray[np.floating], chosen: Ints, temperature: Temperature) -> Floats:
    """Logarithm of the probability of each chosen item given those before it; float64 [B, k], 0 where `chosen` is -1.

    `chosen` int64 [B, k]: columns, in the order shown. Their sum is the log-probability of the ordered slate.
    Raises ValueError when a chosen column is not available or appears twice.
    """
    log_weight = log_weights(logits, temperature)
    rows = np.arange(len(chosen))[:, None]
    shown = chosen >= 0
    picked = np.where(shown, log_weight[rows, chosen], 0.0)
    if not np.isfinite(picked).all():
        raise ValueError("chosen names a column that is not available")
    left = np.exp(log_weight)
    left[np.nonzero(shown)[0], chosen[shown]] = 0.0
    if int((left > 0).sum()) + int(shown.sum()) != int(np.isfinite(log_weight).sum()):
        raise ValueError("chosen names a column twice")
    # Summed from the last position back, so that no denominator comes from a subtraction.
    own = np.where(shown, np.exp(picked), 0.0)
    remaining = left.sum(axis=1, keepdims=True) + np.cumsum(own[:, ::-1], axis=1)[:, ::-1]
    return np.where(shown, picked - np.log(np.where(shown, remaining, 1.0)), 0.0)


def chain(logits: NDArray[np.floating], chosen: Ints, temperature: Temperature) -> Floats:
    """Probability of each chosen item given those before it; float64 [B, k], 1 where `chosen` is -1."""
    return np.exp(log_chain(logits, chosen, temperature))


def marginals(
    logits: NDArray[np.floating], k: int, temperature: Temperature, columns: Ints | None = None
) -> tuple[Floats, Floats]:
    """Probability of each item at each position, and in the slate at all.

    `logits` [B, C]. `columns` int64 [B, m] picks distinct candidates per row (-1 = none, gives 0); left out, all C.
    Returns (position float64 [B, m, k], inclusion float64 [B, m]); inclusion is the sum over positions. Measured
    against enumeration and against the sums (1 at every position): below 1e-9 for k up to 50 (policy/race.py: how).
    """
    _check_k(k)
    weights = np.exp(log_weights(logits, temperature))
    if columns is None:
        columns = np.broadcast_to(np.arange(weights.shape[1]), weights.shape)
    position = race.positions(weights, k, columns)
    return position, position.sum(axis=2)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
