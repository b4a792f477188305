"""Rows of bounded length: each item's strongest neighbours and several values of each pair. Knows nothing of events."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.config import Float32, Int64

Int32 = npt.NDArray[np.int32]


class NeighbourLists:
    """Of each of n items up to M neighbours.

    Attributes:
        neighbours: int32 [n, M], -1 where empty; nothing twice in a row.
        values: float32 [n, M, V], 0 where empty; below 0 only what `shift` made so. The first of the V decides which
            neighbours a full row keeps.
    """

    def __init__(self, items: int, most: int, values: int) -> None:
        self.neighbours: Int32 = np.full((items, most), -1, np.int32)
        self.values: Float32 = np.zeros((items, most, values), np.float32)

    def __len__(self) -> int:
        return len(self.neighbours)

    def grow(self, items: int) -> None:
        """Make room for items up to so many."""
        more = max(0, items - len(self))
        self.neighbours = np.pad(self.neighbours, ((0, more), (0, 0)), constant_values=-1)
        self.values = np.pad(self.values, ((0, more), (0, 0), (0, 0)))

    def add(self, rows: Int64, columns: Int64, values: Float32) -> None:
        """Add `values` [p, V], none below 0, to the pairs (rows [p], columns [p]); a pair may come several times."""
        kept = values.any(axis=1)
        rows, columns, values = _summed(rows[kept], columns[kept], values[kept], len(self))
        met = self.neighbours[rows] == columns[:, None]
        place = met.argmax(axis=1)
        known = met[np.arange(len(rows)), place]
        self.values[rows[known], place[known]] += values[known]
        self._admit(rows[~known], columns[~known], values[~known])

    def shift(self, rows: Int64, values: Float32, at: int) -> None:
        """Add `values` [p, M] to value `at` of the neighbours of `rows` [p], place by place; a row may come several
        times. Empty places stay 0."""
        if not len(rows):
            return
        order = np.argsort(rows, kind="stable")
        touched, starts = np.unique(rows[order], return_index=True)
        summed = np.add.reduceat(values[order], starts, axis=0)
        self.values[touched, :, at] += np.where(self.neighbours[touched] >= 0, summed, 0)

    def scale(self, factors: Float32) -> None:
        """Multiply all values by `factors` [V]; pairs that faded to nothing give their places away."""
        self.values *= factors
        faded = np.abs(self.values).max(axis=2) < 1e-18
        self.values[faded] = 0
        self.neighbours[faded] = -1

    def _admit(self, rows: Int64, columns: Int64, values: Float32) -> None:
        """Take in pairs that are new to their rows, sorted by row; in a full row the weakest give way."""
        if not len(rows):
            return
        touched, starts, counts = np.unique(rows, return_index=True, return_counts=True)
        most = self.neighbours.shape[1]
        at = np.repeat(np.arange(len(touched)), counts)
        place = most + np.arange(len(rows)) - starts[at]
        wide = most + int(counts.max())
        neighbours = np.full((len(touched), wide), -1, np.int32)
        candidates = np.zeros((len(touched), wide, values.shape[1]), np.float32)
        neighbours[:, :most], candidates[:, :most] = self.neighbours[touched], self.values[touched]
        neighbours[at, place], candidates[at, place] = columns, values
        # An empty place is weaker than any pair, also than one that counts for other values than the first only.
        strength = np.where(neighbours >= 0, candidates[:, :, 0], -1)
        stay = np.argpartition(-strength, most - 1, axis=1)[:, :most]
        self.neighbours[touched] = np.take_along_axis(neighbours, stay, 1)
        self.values[touched] = np.take_along_axis(candidates, stay[:, :, None], 1)


def _summed(rows: Int64, columns: Int64, values: Float32, items: int) -> tuple[Int64, Int64, Float32]:
    """The distinct pairs, sorted, and the sum of the values of each."""
    if not len(rows):
        return rows, columns, values
    key = rows * items + columns
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    summed = np.add.reduceat(values[order], starts, axis=0)
    return key[starts] // items, key[starts] % items, summed
