"""Watches how much an approximate index misses: recall of its searches against exact ones, on queries seen lately.

The mean hides the worst served: a low percentile is reported beside it. Knows nothing of users or models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.faiss_index import ItemIndex

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Recall:
    """Recall@k over a sample of queries: the mean, and the 5th percentile."""

    mean: float
    fifth_percentile: float
    queries: int


def recall_at(index: ItemIndex, queries: Floats32, k: int) -> NDArray[np.float64]:
    """For each query float32 [B, dim], the share of the k truly best slots that `search` finds; float64 [B].

    Where fewer than k slots exist, the share of those; 1 when there are none.
    """
    found, _ = index.search(queries, k)
    true, _ = index.search_exact(queries, k)
    exists = true >= 0
    hits = ((true[:, :, None] == found[:, None, :]).any(axis=2) & exists).sum(axis=1)
    return np.where(exists.any(axis=1), hits / np.maximum(exists.sum(axis=1), 1), 1.0)


class RecallMonitor:
    """Keeps a uniform sample of the queries since the last measurement (reservoir sampling, Vitter 1985)."""

    def __init__(self, k: int, capacity: int = 256, seed: int = 0) -> None:
        for name, value in (("k", k), ("capacity", capacity)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        self.k = k
        self.capacity = capacity
        self._random = np.random.default_rng(seed)
        self._sample: list[Floats32] = []
        self._seen = 0

    def observe(self, queries: Floats32) -> None:
        """Queries that were searched, float32 [B, dim]."""
        for query in queries:
            self._seen += 1
            if len(self._sample) < self.capacity:
                self._sample.append(query.copy())
            elif (place := int(self._random.integers(self._seen))) < self.capacity:
                self._sample[place] = query.copy()

    def measure(self, index: ItemIndex) -> Recall | None:
        """Recall on the sample, which is then emptied; None when no query was observed."""
        if not self._sample:
            return None
        queries, self._sample, self._seen = np.stack(self._sample), [], 0
        recalls = recall_at(index, queries, self.k)
        return Recall(float(recalls.mean()), float(np.percentile(recalls, 5)), len(recalls))
