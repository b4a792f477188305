"""Off-policy estimators of one action a round, from weights, rewards and a reward model's predictions.

`weight` [n]: w = π(a | x) / p(a | x), target over logging probability of the logged action. `reward` [n].
`predicted` [n]: q̂(x, a) of the logged action. `expected` [n]: Σ_a π(a | x) q̂(x, a), the direct method's term.
Predictions must come from a model that has not seen the round (`reward_model.cross_fitted`). Each function gives what
rounds contribute; `.value` is the estimate. Knows nothing of where the arrays come from.
"""

from __future__ import annotations

import math

import numpy as np

from evaluation.ope.intervals import standard_error
from evaluation.ope.ratio import Floats, Ints, Ratio, mean, self_normalised

SHRINKAGES = tuple(10.0**power for power in range(-1, 7))


def ips(weight: Floats, reward: Floats) -> Ratio:
    """Inverse propensity scoring: mean(w r) (Horvitz and Thompson, JASA 1952). Unbiased where p > 0 wherever π > 0."""
    return mean(weight * reward)


def snips(weight: Floats, reward: Floats) -> Ratio:
    """Self-normalised IPS: Σ w r / Σ w (Swaminathan and Joachims, NeurIPS 2015). Bias O(1/n), and steadier."""
    return self_normalised(weight, reward)


def clipped_ips(weight: Floats, reward: Floats, clip: float) -> Ratio:
    """mean(min(w, M) r) (Ionides, JCGS 2008; Bottou et al., JMLR 2013): for rewards ≥ 0, biased downwards."""
    return mean(np.minimum(weight, clip) * reward)


def direct(expected: Floats) -> Ratio:
    """The direct method: mean of what the reward model expects of the target. As biased as the model."""
    return mean(expected)


def doubly_robust(weight: Floats, reward: Floats, predicted: Floats, expected: Floats) -> Ratio:
    """mean(expected + w (r - q̂)) (Dudík, Langford and Li, ICML 2011): unbiased when propensities or model are right."""
    return mean(expected + weight * (reward - predicted))


def dros(weight: Floats, reward: Floats, predicted: Floats, expected: Floats, shrinkage: float) -> Ratio:
    """Doubly robust with optimistic shrinkage: weights λ w / (w² + λ) (Su, Dimakopoulou, Krishnamurthy and Dudík,
    ICML 2020). λ = `shrinkage`: 0 gives the direct method, ∞ doubly robust."""
    return doubly_robust(shrunk(weight, shrinkage), reward, predicted, expected)


def shrunk(weight: Floats, shrinkage: float) -> Floats:
    """λ w / (w² + λ): never above w, nor above √λ / 2."""
    return shrinkage * weight / (weight**2 + shrinkage)


def chosen_shrinkage(weight: Floats, reward: Floats, predicted: Floats, expected: Floats, cluster: Ints) -> float:
    """λ by SLOPE (Su, Srinath and Krishnamurthy, ICML 2020, after Lepski): from the largest λ, which has the least
    bias, down, as long as all intervals so far, of ± 2 standard errors, have a point in common."""
    low, high, chosen = -math.inf, math.inf, SHRINKAGES[-1]
    for shrinkage in reversed(SHRINKAGES):
        estimate = dros(weight, reward, predicted, expected, shrinkage)
        half = 2 * standard_error(estimate, cluster)
        low, high = max(low, estimate.value - half), min(high, estimate.value + half)
        if low > high:
            break
        chosen = shrinkage
    return chosen
