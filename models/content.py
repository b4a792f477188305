"""Content only, a baseline: items whose text is like that of the user's last ones. Counts only for who has none."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np

from models.baselines import ItemLog
from models.config import Float32
from models.factorisation import smallest


class ContentOnly:
    """Items by the inner product of their text vector with the fading sum of those of the user's last items.

    Text vectors lose the mean of all items and are scaled to length 1 before; an event weighs decay^age. An item needs
    no event to be recommended. A user none of whose last items has a text gets recent popularity.
    """

    def __init__(
        self, ids: Sequence[str], text: Float32, window: int = 10, decay: float = 0.8, *, half_life: float = 10_000
    ) -> None:
        """text: [n, t] vectors of n items."""
        if len(ids) != len(text):
            raise ValueError(f"ContentOnly got {len(ids)} ids and {len(text)} text vectors")
        self._ids = list(ids)
        self._row = {item: row for row, item in enumerate(self._ids)}
        centred = text - text.mean(axis=0)
        self._text = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.float32(1e-12))
        self._decays = (decay ** np.arange(window)).astype(np.float32)
        self._log = ItemLog(half_life)
        self._recent: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=window))
        self._seen: defaultdict[str, set[int]] = defaultdict(set)

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        self._log.add(user, item)
        self._log.rescale()
        row = self._row.get(item, -1)
        self._recent[user].appendleft(row)
        if row >= 0:
            self._seen[user].add(row)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first, of all that have a text."""
        rows = np.array(self._recent.get(user, ()), np.int64)
        known = rows >= 0
        if not known.any():
            return self._log.best(user, k, exclude_seen)
        profile = self._decays[: len(rows)][known] @ self._text[rows[known]]
        distance = -(self._text @ profile)
        if exclude_seen:
            distance[list(self._seen[user])] = np.inf
        return [self._ids[row] for row in smallest(distance, k).tolist()]
