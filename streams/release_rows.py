"""Where the rows of a release lie in the catalogue: counts are kept in the one, everything else in the other.

A row may have no slot (the item is not known here) and a slot no row (the item is newer than the release). Changed by
the world's thread, as items come and go.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from index.growable import with_room

Ints = NDArray[np.int64]


class ReleaseRows:
    """`row` of a slot and `slot` of a row, and which rows are `available`: their items are on the shelf."""

    def __init__(self, rows: int) -> None:
        self.slot: Ints = np.full(rows, -1, np.int64)
        self.available: NDArray[np.bool_] = np.zeros(rows, np.bool_)
        self._row: Ints = np.empty(0, np.int64)

    def put(self, slots: Ints, rows: Ints, on_shelf: NDArray[np.bool_]) -> None:
        """Items came, or came back: slot, row (-1: not in the release) and whether each may be recommended, [n]."""
        self._row = with_room(self._row, int(slots.max(initial=-1)) + 1, fill=-1)
        self._row[slots] = rows
        known = rows >= 0
        self.slot[rows[known]] = slots[known]
        self.available[rows[known]] = on_shelf[known]

    def forget(self, slots: Ints) -> None:
        """The items of these slots stand for nothing any more; they would come back in other ones."""
        rows = self._row[slots]
        self._row[slots] = -1
        rows = rows[rows >= 0]
        self.slot[rows] = -1
        self.available[rows] = False

    def of(self, slots: Ints) -> Ints:
        """Rows of slots of any shape; -1 where the slot is -1, or its item is not in the release."""
        if not len(self._row):
            return np.full(slots.shape, -1, np.int64)
        return np.where(slots >= 0, self._row[slots], -1)

    def slots_of(self, rows: Ints) -> Ints:
        """Slots of rows of any shape; -1 where the row is -1."""
        if not len(self.slot):
            return np.full(rows.shape, -1, np.int64)
        return np.where(rows >= 0, self.slot[rows], -1)
