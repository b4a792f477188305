"""Recommenders that count, to be beaten: learned one event at a time. They know nothing about models or features.

Counts fade: an event is worth half as much as one that comes ``half_life`` events later. Instead of shrinking all
counts at every event, each event adds more than the one before it, and all are scaled down together now and then.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_RESCALE_AT = 2.0**100


class Baseline(Protocol):
    """A recommender that learns from single events."""

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first, of those that were ever in an event."""


class RecentPopularity:
    """Items by their number of events, fading with a half-life in events."""

    def __init__(self, half_life: float = 10_000) -> None:
        self._log = _Log(half_life)

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        self._log.add(user, item)
        self._log.rescale()

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first; the same for everybody but for what is excluded."""
        return self._log.top(user, np.zeros(len(self._log.items)), k, exclude_seen)


class LastItemTransitions:
    """Items by how often they came right after the user's last item; ties by recent popularity."""

    def __init__(self, half_life: float = 25_000) -> None:
        self._log = _Log(half_life)
        self._after = _Rows()
        self._last: dict[str, int] = {}

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        slot, worth = self._log.add(user, item)
        if user in self._last:
            self._after.add(self._last[user], slot, worth)
        self._last[user] = slot
        if self._log.rescale():
            self._after.scale(1 / _RESCALE_AT)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first."""
        scores = np.zeros(len(self._log.items))
        if user in self._last:
            scores = self._after.mix([(self._last[user], 1.0)], len(scores))
        return self._log.top(user, scores, k, exclude_seen)


class WindowedCoOccurrence:
    """Item-to-item counts within a sliding window over each user's events: the strongest of these on streams.

    Two items of a user at most ``window`` events apart count as a pair, in both directions, by decay^distance.
    An item's score is the sum, over the user's last items, of decay^age × pairs with it, over the square roots
    of both counts (cosine).
    """

    def __init__(self, window: int = 20, decay: float = 0.85, half_life: float = 25_000) -> None:
        self._log = _Log(half_life)
        self._pairs = _Rows()
        self._decay = decay
        self._recent: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=window))

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        slot, worth = self._log.add(user, item)
        recent = self._recent[user]
        for age, other in enumerate(recent):
            if other != slot:
                self._pairs.add(other, slot, worth * self._decay**age)
                self._pairs.add(slot, other, worth * self._decay**age)
        recent.appendleft(slot)
        if self._log.rescale():
            self._pairs.scale(1 / _RESCALE_AT)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first."""
        counts = self._log.counts()
        norms = np.sqrt(np.maximum(counts, 1e-300))
        recent = enumerate(self._recent.get(user, ()))
        weighted = [(slot, self._decay**age / norms[slot]) for age, slot in recent]
        scores = self._pairs.mix(weighted, len(counts)) / norms
        return self._log.top(user, scores, k, exclude_seen)


class _Log:
    """Items, their fading counts, and who has seen what."""

    def __init__(self, half_life: float) -> None:
        if half_life <= 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of events")
        self.items: list[str] = []
        self._slot: dict[str, int] = {}
        self._counts = array("d")
        self._seen: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._worth, self._growth = 1.0, 2.0 ** (1 / half_life)

    def add(self, user: str, item: str) -> tuple[int, float]:
        """Count an event; the item's slot, and what this event is worth."""
        slot = self._slot.setdefault(item, len(self.items))
        if slot == len(self.items):
            self.items.append(item)
            self._counts.append(0.0)
        self._worth *= self._growth
        self._counts[slot] += self._worth
        self._seen[user].append(slot)
        return slot, self._worth

    def rescale(self) -> bool:
        """Scale down when numbers get large; whether that happened, for the owner to do the same."""
        if self._worth < _RESCALE_AT:
            return False
        self._worth /= _RESCALE_AT
        self._counts = array("d", (count / _RESCALE_AT for count in self._counts))
        return True

    def counts(self) -> Float64:
        return np.array(self._counts)

    def top(self, user: str, scores: Float64, k: int, exclude_seen: bool) -> list[str]:
        """The k items of the largest scores; equal ones, zeros above all, by their counts."""
        order = scores / (scores.max(initial=0) or 1) + 1e-9 * self.counts() / self._worth
        if exclude_seen and user in self._seen:
            order[np.frombuffer(self._seen[user], np.int64)] = -1
        best = np.argpartition(-order, min(k, len(order)) - 1)[:k] if len(order) else np.arange(0)
        best = best[np.argsort(-order[best], kind="stable")]
        return [self.items[at] for at in best if order[at] >= 0]


class _Rows:
    """A sparse matrix that grows by appending; an entry that is there twice counts as the sum."""

    def __init__(self) -> None:
        self._columns: defaultdict[int, array[int]] = defaultdict(lambda: array("q"))
        self._values: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))
        self._compact_at: defaultdict[int, int] = defaultdict(lambda: 256)

    def add(self, row: int, column: int, value: float) -> None:
        self._columns[row].append(column)
        self._values[row].append(value)
        if len(self._columns[row]) >= self._compact_at[row]:
            self._compact(row)

    def mix(self, weighted: list[tuple[int, float]], width: int) -> Float64:
        """[width] weighted sum of rows."""
        parts = [(row, weight) for row, weight in weighted if row in self._columns]
        if not parts:
            return np.zeros(width)
        columns = np.concatenate([np.frombuffer(self._columns[row], np.int64) for row, _ in parts])
        values = np.concatenate([np.frombuffer(self._values[row]) * weight for row, weight in parts])
        mixed: Float64 = np.bincount(columns, weights=values, minlength=width).astype(np.float64, copy=False)
        return mixed

    def scale(self, factor: float) -> None:
        for row, values in self._values.items():
            self._values[row] = array("d", (value * factor for value in values))

    def _compact(self, row: int) -> None:
        columns, at = np.unique(np.frombuffer(self._columns[row], np.int64), return_inverse=True)
        values = np.bincount(at, weights=np.frombuffer(self._values[row]))
        self._columns[row], self._values[row] = array("q", columns.tobytes()), array("d", values.tobytes())
        self._compact_at[row] = max(256, 2 * len(columns))
