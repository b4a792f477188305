"""How often each item is shown: streaming frequency estimation from the gaps between its appearances.

The estimator of Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations" (RecSys
2019): items are hashed into rows of cells; a cell remembers the step of its last hit and a moving average of the gaps
between hits, and the probability is the reciprocal of the largest gap over the rows (a collision can only shorten a
gap, so the largest is the least disturbed). A step is one slate. Fixed memory, follows drift. Items are known by their
64-bit hash; knows nothing of slates, scores or users.

Two additions to the published method. A cell's n-th gap is averaged in with weight max(α, 1/n), so that the first
estimates are plain means instead of slowly forgetting an arbitrary start; the first gap is the wait since the
estimator began, which for a geometric wait has the right mean. And a gap still open that is already longer than
the estimate is averaged in as if it ended now, so that an item no longer shown fades.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# One odd multiplier for each row, from the golden ratio (multiply-shift hashing, Dietzfelbinger et al. 1997).
GOLDEN = 0x9E3779B97F4A7C15
SHIFT = np.uint64(33)


class StreamingFrequency:
    """Estimates P(an item is in a slate). Not safe for concurrent mutation.

    `rows` × `width` cells, about 24 bytes each; a width well below the number of items shown makes collisions the
    main error. `alpha` is the weight of a new gap.
    """

    def __init__(self, rows: int = 4, width: int = 1250, alpha: float = 0.01, start: int = 0) -> None:
        if rows < 1 or width < 1:
            raise ValueError(f"rows and width are {rows} and {width}, expected at least 1")
        if not 0 < alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number above 0, at most 1")
        self.alpha = alpha
        self.start = start
        self.step = start
        self._last = np.full((rows, width), start, dtype=np.int64)
        self._gap = np.zeros((rows, width))
        self._hits = np.zeros((rows, width), dtype=np.int64)
        self._multipliers = np.array([GOLDEN * (2 * row + 1) % 2**64 for row in range(rows)], dtype=np.uint64)

    def learn(self, items: Hashes, step: int) -> None:
        """The items (hashes, uint64 [n]) were shown at `step`: one step is one slate, counted up from start + 1.

        Raises ValueError when a step does not come after the one before.
        """
        if step <= self.step:
            raise ValueError(f"step is {step}, expected more than the last one, {self.step}")
        self.step = step
        cells = self._cells(items)
        hits = self._hits[cells] + 1
        weight = np.maximum(self.alpha, 1 / hits)
        # Two items in one cell write the same numbers: the cell was hit once in this step.
        self._gap[cells] += weight * (step - self._last[cells] - self._gap[cells])
        self._last[cells] = step
        self._hits[cells] = hits

    def quicken(self, factor: float) -> None:
        """Let the next gap of every cell count at least `factor` · alpha, and less again from gap to gap.

        Raises ValueError for a factor below 1.
        """
        if not factor >= 1:
            raise ValueError(f"factor is {factor}, expected at least 1")
        np.minimum(self._hits, max(1, round(1 / (self.alpha * factor))), out=self._hits)

    def probability(self, items: Hashes) -> NDArray[np.float64]:
        """Estimated probability that each item is in a slate, float64 [n], in (0, 1].

        An item never shown gets 1 / (steps so far + 1), as if the next slate were its first.
        """
        cells = self._cells(items)
        gap, hits = self._gap[cells], self._hits[cells]
        open_gap = self.step + 1 - self._last[cells]
        excess = np.maximum(open_gap - gap, 0.0)
        expected = gap + np.maximum(self.alpha, 1 / (hits + 1)) * excess
        return np.asarray(1 / np.maximum(expected.max(axis=0), 1.0))

    def hits(self, items: Hashes) -> NDArray[np.int64]:
        """In how many slates each item was so far, int64 [n]: at most; a collision can only add to it."""
        return np.asarray(self._hits[self._cells(items)].min(axis=0))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: numbers, and arrays `last` int64, `gap` float64, `hits` int64 [rows, width]."""
        arrays = {"last": self._last.copy(), "gap": self._gap.copy(), "hits": self._hits.copy()}
        return {"alpha": self.alpha, "start": self.start, "step": self.step, **arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> StreamingFrequency:
        """The estimator that gave `state`; arrays may come as nested lists. Raises ValueError when they disagree."""
        last = np.array(state["last"], dtype=np.int64)
        gap = np.array(state["gap"], dtype=np.float64)
        hits = np.array(state["hits"], dtype=np.int64)
        if last.ndim != 2 or not last.shape == gap.shape == hits.shape:
            shapes = f"{last.shape}, {gap.shape}, {hits.shape}"
            raise ValueError(f"last, gap, hits have shapes {shapes}, expected one shape [rows, width]")
        restored = cls(last.shape[0], last.shape[1], alpha=float(state["alpha"]), start=int(state["start"]))
        restored.step = int(state["step"])
        restored._last, restored._gap, restored._hits = last, gap, hits
        return restored

    def _cells(self, items: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, width = self._gap.shape
        mixed = (np.asarray(items, dtype=np.uint64)[None, :] * self._multipliers[:, None]) >> SHIFT
        return np.arange(rows)[:, None], (mixed % np.uint64(width)).astype(np.int64)
