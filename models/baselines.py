"""Recommenders that count, to be beaten: learned one event at a time. They know nothing about models or features.

Counts fade: an event is worth half as much as one that comes ``half_life`` events later. Instead of shrinking all
counts at every event, each event adds more than the one before it, and all are scaled down together now and then.
docs/evaluation.md gives each of them as a formula.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

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
        self._log = ItemLog(half_life)

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        self._log.add(user, item)
        self._log.rescale()

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first; the same for everybody but for what is excluded."""
        return self._log.best(user, k, exclude_seen)


class WindowedCoOccurrence:
    """Item-to-item counts within a sliding window over each user's events: the strongest of these on streams.

    Two items of a user at most ``window`` events apart count as a pair by decay^(distance − 1) from the earlier to the
    later one, and by ``backward`` times that the other way; an item with itself only with ``self_pairs``. An item's
    score is the sum, over the user's last ``read_window`` events, of read_decay^age × pairs from that event's item to
    it, over count^source_power of the one and count^target_power of the other. Where repeats may be recommended, an
    item of these events gets repeat_bonus × read_decay^age × the largest score on top. Ties, and what has no score, by
    recent popularity.
    """

    def __init__(
        self,
        window: int = 20,
        decay: float = 0.85,
        half_life: float = 25_000,
        *,
        read_window: int | None = None,
        read_decay: float | None = None,
        backward: float = 1.0,
        source_power: float = 0.5,
        target_power: float = 0.5,
        self_pairs: bool = False,
        repeat_bonus: float = 0.0,
    ) -> None:
        read_window = window if read_window is None else read_window
        if window < 1 or read_window < 1:
            raise ValueError(f"window is {window} and read_window {read_window}, expected at least 1 event")
        self._log = ItemLog(half_life)
        self._pairs = _Rows()
        self._decays = (decay ** np.arange(window)).tolist()
        self._read_decays = (decay if read_decay is None else read_decay) ** np.arange(read_window)
        self._backward, self._self_pairs = backward, self_pairs
        self._source_power, self._target_power = source_power, target_power
        self._repeat_bonus = repeat_bonus
        self._recent: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=max(window, read_window)))

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        """Take in one event."""
        slot, worth = self._log.add(user, item)
        recent = self._recent[user]
        back = worth * self._backward
        for other, fading in zip(recent, self._decays, strict=False):
            if other != slot:
                self._pairs.add(other, slot, worth * fading)
                if back:
                    self._pairs.add(slot, other, back * fading)
            elif self._self_pairs:
                self._pairs.add(slot, slot, (worth + back) * fading)
        recent.appendleft(slot)
        if self._log.rescale():
            self._pairs.scale(1 / _RESCALE_AT)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        """Up to k items, best first."""
        recent = list(self._recent.get(user, ()))[: len(self._read_decays)]
        if not recent:
            return self._log.best(user, k, exclude_seen)
        counts = np.maximum(self._log.counts(), 1e-300)
        weights = self._read_decays[: len(recent)] / counts[recent] ** self._source_power
        scores = self._pairs.mix(zip(recent, weights.tolist(), strict=True), len(counts))
        slots = np.flatnonzero(scores)
        found = scores[slots] / counts[slots] ** self._target_power
        if self._repeat_bonus and not exclude_seen:
            slots, found = self._with_repeats(recent, slots, found)
        return self._log.best(user, k, exclude_seen, slots, found)

    def _with_repeats(self, recent: list[int], slots: Int64, scores: Float64) -> tuple[Int64, Float64]:
        """Add the bonus of what was read, by its newest event."""
        largest = float(scores.max(initial=0)) or 1.0
        own = dict(zip(reversed(recent), self._read_decays[: len(recent)][::-1].tolist(), strict=True))
        slots = np.concatenate([slots, np.fromiter(own, np.int64)])
        bonus = self._repeat_bonus * largest * np.fromiter(own.values(), float)
        slots, at = np.unique(slots, return_inverse=True)
        summed: Float64 = np.bincount(at, weights=np.concatenate([scores, bonus])).astype(np.float64, copy=False)
        return slots, summed


class LastItemTransitions(WindowedCoOccurrence):
    """Items by how often they came right after the user's last item; ties by recent popularity."""

    def __init__(self, half_life: float = 25_000) -> None:
        super().__init__(1, 1.0, half_life, backward=0.0, source_power=0.0, target_power=0.0)


class LastTenDirected(WindowedCoOccurrence):
    """Items by how often they came within ten events after one of the user's last ten."""

    def __init__(self, decay: float = 0.8, half_life: float = 25_000) -> None:
        super().__init__(10, decay, half_life, backward=0.0, source_power=0.0, target_power=0.0)


class ItemLog:
    """Items, their fading counts and their order by them, and who has seen what."""

    def __init__(self, half_life: float) -> None:
        if half_life <= 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of events")
        self.items: list[str] = []
        self._slot: dict[str, int] = {}
        self._counts = array("d")
        # Only the event's own item rises, relative to all others: keeping the order is cheaper than sorting to ask.
        self._order: list[tuple[float, int]] = []
        self._seen: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
        self._worth, self._growth = 1.0, 2.0 ** (1 / half_life)

    def add(self, user: str, item: str) -> tuple[int, float]:
        """Count an event; the item's slot, and what this event is worth."""
        slot = self._slot.setdefault(item, len(self.items))
        if slot == len(self.items):
            self.items.append(item)
            self._counts.append(0.0)
        else:
            del self._order[bisect_left(self._order, (-self._counts[slot], slot))]
        self._worth *= self._growth
        self._counts[slot] += self._worth
        insort(self._order, (-self._counts[slot], slot))
        self._seen[user].append(slot)
        return slot, self._worth

    def rescale(self) -> bool:
        """Scale down when numbers get large; whether that happened, for the owner to do the same."""
        if self._worth < _RESCALE_AT:
            return False
        self._worth /= _RESCALE_AT
        self._counts = array("d", (count / _RESCALE_AT for count in self._counts))
        self._order = sorted((-count, slot) for slot, count in enumerate(self._counts))
        return True

    def counts(self) -> Float64:
        """[items], in units of what an event is worth now up to a factor that is the same for all."""
        return np.array(self._counts)

    def slot(self, item: str) -> int:
        """Its place in ``items``, -1 for one that was never in an event."""
        return self._slot.get(item, -1)

    def seen(self, user: str) -> Int64:
        """Slots of the user's events."""
        return np.array(self._seen.get(user, ()), np.int64)

    def best(
        self,
        user: str,
        k: int,
        exclude_seen: bool,
        slots: Int64 | None = None,
        scores: Float64 | None = None,
    ) -> list[str]:
        """The k best of ``slots`` by their positive scores, equal ones by counts, then the others by their counts."""
        seen = self.seen(user) if exclude_seen else np.empty(0, np.int64)
        chosen = [] if slots is None or scores is None else self._top(slots, scores, k, seen)
        if len(chosen) < k:
            barred = {*seen.tolist(), *chosen}
            for _, slot in self._order:
                if len(chosen) == k:
                    break
                if slot not in barred:
                    chosen.append(slot)
        return [self.items[slot] for slot in chosen]

    def _top(self, slots: Int64, scores: Float64, k: int, seen: Int64) -> list[int]:
        if len(seen):
            left = ~np.isin(slots, seen)
            slots, scores = slots[left], scores[left]
        if not len(slots):
            return []
        counts = np.frombuffer(self._counts)[slots]
        order = scores / scores.max() + 1e-9 * counts / self._worth
        best = np.argpartition(-order, k)[:k] if len(order) > k else np.arange(len(order))
        found: list[int] = slots[best[np.argsort(-order[best], kind="stable")]].tolist()
        return found


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

    def mix(self, weighted: Iterable[tuple[int, float]], width: int) -> Float64:
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
