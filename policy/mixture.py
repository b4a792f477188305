"""A mixture of two slates: Plackett-Luce with probability 1 - ε, uniformly random with probability ε.

The uniform arm gives every available candidate a floor of probability, which off-policy estimates need. Probabilities
here are those of the mixture, whichever arm the slate came from. Arrays only; knows nothing of users or items.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from policy import plackett_luce, swaps
from policy.plackett_luce import Floats, Ints, Temperature


def sample(
    logits: NDArray[np.floating],
    gumbel_uniforms: Floats,
    arm_uniforms: Floats,
    k: int,
    temperature: Temperature,
    epsilon: float,
) -> tuple[Ints, NDArray[np.bool_]]:
    """Draw slates: columns int64 [B, k] (-1 beyond what is available) and whether each is uniform, bool [B].

    `logits` [B, C], `gumbel_uniforms` float64 [B, C] and `arm_uniforms` float64 [B], all in (0, 1).
    """
    uniform_arm = arm_uniforms < epsilon
    equal = np.where(np.isneginf(logits), logits, 0.0)
    effective = np.where(uniform_arm[:, None], equal, logits)
    return plackett_luce.sample(effective, gumbel_uniforms, k, temperature), uniform_arm


def chain(
    logits: NDArray[np.floating], chosen: Ints, temperature: Temperature, epsilon: float, exchanged: float = 0.0
) -> tuple[Floats, Floats]:
    """Conditional probabilities float64 [B, k] and the log-probability of the ordered slate, float64 [B].

    `exchanged`: in which share of slates two neighbours change places after the draw (policy/swaps.py).
    The conditional at j is P(first j items) / P(first j - 1 items) under the mixture, so that the product is the
    probability of the slate; 1 where `chosen` int64 [B, k] is -1.
    """
    log_softmax = np.cumsum(plackett_luce.log_chain(logits, chosen, temperature), axis=1)
    if exchanged:
        log_softmax += swaps.log_factors(logits, chosen, temperature, exchanged)
    left = _available(logits)[:, None] - np.arange(chosen.shape[1])
    log_uniform = -np.cumsum(np.log(np.where(chosen >= 0, np.maximum(left, 1), 1)), axis=1)
    log_prefix = np.logaddexp(_log(1 - epsilon) + log_softmax, _log(epsilon) + log_uniform)
    # Rounding may carry a certain thing a few ulp past 1.
    conditional = np.minimum(np.exp(np.diff(log_prefix, axis=1, prepend=0.0)), 1.0)
    return conditional, log_prefix[:, -1].copy()


def marginals(
    logits: NDArray[np.floating], k: int, temperature: Temperature, epsilon: float, columns: Ints | None = None
) -> tuple[Floats, Floats]:
    """Probability of each item at each position [B, m, k] and in the slate [B, m]; see plackett_luce.marginals."""
    position, _ = plackett_luce.marginals(logits, k, temperature, columns)
    available = _available(logits)
    share = epsilon / np.maximum(available, 1)
    filled = np.arange(k) < available[:, None]
    mixed = (1 - epsilon) * position + np.where(filled, share[:, None], 0.0)[:, None, :]
    if columns is None:
        mixed[np.isneginf(logits)] = 0.0
    else:
        rows = np.arange(len(logits))[:, None]
        mixed[(columns < 0) | np.isneginf(logits[rows, columns])] = 0.0
    return np.minimum(mixed, 1.0), np.minimum(mixed.sum(axis=2), 1.0)


def _available(logits: NDArray[np.floating]) -> Ints:
    available: Ints = (~np.isneginf(logits)).sum(axis=1)
    return available


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
