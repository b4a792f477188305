"""Events of each item, by several half-lives in events. Knows nothing of users, pairs or releases."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.config import Bool, Int64

Float64 = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]


class FadingCounts:
    """Events of each item, by several half-lives. Instead of all counts shrinking, each event adds more than the last.

    `counts` float64 [n, H], and what an event is `worth` now, float64 [H]: their quotient is what a reader wants.
    """

    def __init__(self, items: int, half_lives: list[float]) -> None:
        self._growth: Float64 = 2.0 ** (1 / np.array(half_lives, np.float64))
        self.worth: Float64 = np.ones(len(half_lives))
        self.counts: Float64 = np.zeros((items, len(half_lives)))

    def grow(self, items: int) -> None:
        """Make room for items up to so many."""
        more = max(0, items - len(self.counts))
        self.counts = np.pad(self.counts, ((0, more), (0, 0)))

    def add(self, items: Int64) -> Float64:
        """Count n events; what each is worth, [n, H]."""
        worth = self.worth * self._growth ** np.arange(1, len(items) + 1)[:, None]
        known: Bool = items >= 0
        np.add.at(self.counts, items[known], worth[known])
        if len(items):
            self.worth = worth[-1]
        return worth

    def rescale(self) -> Float64:
        """Make an event worth 1 again; what everything was divided by, [H]."""
        by = self.worth
        self.counts, self.worth = self.counts / by, np.ones_like(by)
        return by

    def state(self) -> Arrays:
        """Everything, exactly. Not a copy: write it before going on."""
        return {"counts": self.counts, "worth": self.worth}

    def restore(self, counts: Float64, worth: Float64) -> None:
        """Be as ``state`` said."""
        self.counts, self.worth = counts.copy(), worth.copy()
