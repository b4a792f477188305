"""Variety within a slate: what resembles something better is held back, by maximal marginal relevance.

A greedy pass over the scores (Carbonell and Goldstein, SIGIR 1998): whoever is best after a deduction for his
likeness to those already taken is taken next. What each candidate was deducted in the end is a column to add; the draw
stays as it is. Arrays only; knows nothing of items or of what the vectors say.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy.plackett_luce import Ints

Floats32 = NDArray[np.float32]

SHORTLIST = 2
"""The greedy pass takes from the k × SHORTLIST best; all others are compared with what it took."""


def deductions(logits: Floats32, vectors: Floats32, k: int, weight: float, length: float = 1.0) -> Floats32:
    """−weight × the greatest likeness to what was taken before, float32 [B, C], 0 where there is no candidate.

    `logits` [B, C], -inf where there is none; `vectors` [B, C, d], all of one `length`. Likeness is
    the cosine, from 0 on.
    """
    size, columns = logits.shape
    listed = min(k * SHORTLIST, columns)
    shortlist = np.sort(np.argpartition(-logits, listed - 1, axis=1)[:, :listed], axis=1)
    likeness = _likeness(vectors, shortlist, length)
    rows, nearest = np.arange(size), np.zeros(logits.shape, np.float32)
    left = np.take_along_axis(logits, shortlist, axis=1)
    for _ in range(min(k, listed)):
        scores = left - np.float32(weight) * np.take_along_axis(nearest, shortlist, axis=1)
        taken = scores.argmax(axis=1)
        there = np.isfinite(left[rows, taken])
        alike = np.where(there[:, None], likeness[rows, taken], np.float32(0))
        own = shortlist[rows, taken]
        kept = nearest[rows, own]
        np.maximum(nearest, alike, out=nearest)
        # What is taken owes for those before it, and no more for those that come.
        likeness[rows, :, own] = 0
        nearest[rows, own] = kept
        left[rows, taken] = -np.inf
    return np.where(np.isfinite(logits), np.float32(-weight) * nearest, np.float32(0))


def _likeness(vectors: Floats32, shortlist: Ints, length: float) -> Floats32:
    """Cosines of the shortlist with everybody, from 0 on, [B, S, C]."""
    chosen = vectors[np.arange(len(vectors))[:, None], shortlist] * np.float32(1 / length**2)
    products = np.matmul(chosen, vectors.swapaxes(1, 2))
    likeness: Floats32 = np.maximum(products, np.float32(0), out=products)
    return likeness
