"""Slate probabilities by going through every ordered slate: slow, and obviously right."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray


def slates(weights: list[float], k: int) -> dict[tuple[int, ...], float]:
    """Plackett-Luce probability of every ordered slate of min(k, available) items; weight 0 = not available."""
    available = [item for item, weight in enumerate(weights) if weight > 0]
    result = {}
    for slate in itertools.permutations(available, min(k, len(available))):
        probability, left = 1.0, list(available)
        for item in slate:
            probability *= weights[item] / math.fsum(weights[other] for other in left)
            left.remove(item)
        result[slate] = probability
    return result


def positions(probabilities: dict[tuple[int, ...], float], items: int, k: int) -> NDArray[np.float64]:
    """P(item at position), float64 [items, k]."""
    result = np.zeros((items, k))
    for slate, probability in probabilities.items():
        result[slate, np.arange(len(slate))] += probability
    return result
