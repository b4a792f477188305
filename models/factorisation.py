"""Incremental matrix factorisation, a baseline: a vector for each user and item, moved by each event.

ISGD: Vinagre, Jorge and Gama, Fast Incremental Matrix Factorization for Recommendation with Positive-Only Feedback,
UMAP 2014. Knows nothing about features, time or sequence.
"""

from __future__ import annotations

import numpy as np

from models.baselines import ItemLog
from models.config import Float32, Int64

_START = 0.1
"""Standard deviation of a new vector's numbers, as in the paper."""
_LARGEST = 3.0
"""Numbers are held within this: with a rate too large for a user's repeats they would grow for ever."""


class IncrementalFactorisation:
    """Items whose product with the user's vector is nearest to 1, the value of every event.

    Each event repeats ``passes`` times: error e = 1 − p·q; p += rate (e q − regularisation p); q += rate (e p −
    regularisation q), with the new p. A user without an event has no vector: recent popularity.
    """

    def __init__(
        self,
        dim: int = 64,
        rate: float = 0.1,
        regularisation: float = 0.01,
        passes: int = 1,
        *,
        half_life: float = 10_000,
        seed: int = 0,
    ) -> None:
        for name, value in (("dim", dim), ("rate", rate), ("passes", passes)):
            if not value > 0:
                raise ValueError(f"IncrementalFactorisation.{name} is {value}, expected a positive number")
        self._log = ItemLog(half_life)
        self._rate, self._regularisation, self._passes = np.float32(rate), np.float32(regularisation), passes
        self._random = np.random.default_rng(seed)
        self._users: dict[str, Float32] = {}
        self._items: Float32 = np.empty((64, dim), np.float32)

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        known = len(self._log.items)
        slot, _ = self._log.add(user, item)
        self._log.rescale()
        if slot == known:
            self._make_room()
            self._items[slot] = self._new_vector()
        p, q = self._users.get(user), self._items[slot]
        if p is None:
            p = self._users[user] = self._new_vector()
        for _ in range(self._passes):
            error = np.float32(1) - p @ q
            p += self._rate * (error * q - self._regularisation * p)
            q += self._rate * (error * p - self._regularisation * q)
            np.clip(p, -_LARGEST, _LARGEST, out=p)
            np.clip(q, -_LARGEST, _LARGEST, out=q)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first."""
        vector = self._users.get(user)
        if vector is None:
            return self._log.best(user, k, exclude_seen)
        distance = np.abs(1 - self._items[: len(self._log.items)] @ vector)
        if exclude_seen:
            distance[self._log.seen(user)] = np.inf
        return [self._log.items[slot] for slot in smallest(distance, k).tolist()]

    def _new_vector(self) -> Float32:
        size = self._items.shape[1]
        vector: Float32 = self._random.normal(0, _START, size=(size,)).astype(np.float32)
        return vector

    def _make_room(self) -> None:
        if len(self._log.items) > len(self._items):
            self._items = np.concatenate([self._items, np.empty_like(self._items)])


def smallest(numbers: Float32, k: int) -> Int64:
    """Places of the k smallest finite numbers, ascending; equal ones in the order of their places."""
    places = np.argpartition(numbers, k)[:k] if len(numbers) > k else np.arange(len(numbers))
    places = places[np.lexsort((places, numbers[places]))]
    found: Int64 = places[np.isfinite(numbers[places])]
    return found
