"""Which categories each slot's item has, as rows of small numbers.

Names get their number when they are first heard of, and keep it; nothing may depend on their order. Knows nothing of
users, scores or rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from index.growable import with_room

Numbers = NDArray[np.int32]
NONE = -1


class Categories:
    """Category numbers by slot, int32 [slots, W]; W is as many as the item with the most has."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: list[str] = []  # by number
        self._rows: Numbers = np.full((0, 1), NONE, np.int32)

    def __len__(self) -> int:
        """How many names are known."""
        return len(self.numbers)

    def put(self, slots: NDArray[np.int64], categories: Sequence[Sequence[str]]) -> None:
        """Say which categories the items of n slots have, instead of what was said before."""
        if not len(slots):
            return
        known = [list(dict.fromkeys(names)) for names in categories]
        widest = max(len(names) for names in known)
        if widest > self._rows.shape[1]:
            more = np.full((len(self._rows), widest - self._rows.shape[1]), NONE, np.int32)
            self._rows = np.concatenate([self._rows, more], axis=1)
        self._rows = with_room(self._rows, int(slots.max()) + 1, fill=NONE)
        self._rows[slots] = NONE
        for slot, names in zip(slots.tolist(), known, strict=True):
            self._rows[slot, : len(names)] = [self.numbers.setdefault(name, len(self.numbers)) for name in names]
        self.names += islice(self.numbers, len(self.names), None)

    def of(self, slots: NDArray[np.int64]) -> Numbers:
        """The category numbers of slots [...], int32 [..., W]; -1 beyond an item's own, and for slot -1."""
        known = (slots >= 0) & (slots < len(self._rows))
        if not len(self._rows):
            return np.full((*slots.shape, self._rows.shape[1]), NONE, np.int32)
        return np.where(known[..., None], self._rows[np.where(known, slots, 0)], np.int32(NONE))

    def any_of(self, slots: NDArray[np.int64], names: Iterable[str]) -> NDArray[np.bool_]:
        """Whether the items of slots [...] have one of the named categories, bool [...]."""
        wanted = [self.numbers[name] for name in names if name in self.numbers]
        return np.asarray(np.isin(self.of(slots), wanted).any(axis=-1))
