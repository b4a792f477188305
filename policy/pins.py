"""Pinned positions: what stands in a slate for certain, and the draw around it.

Arrays only: a row is one slate, a column one candidate. Knows nothing of probabilities, of rules or of why something is
pinned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy.plackett_luce import Floats, Ints


@dataclass(frozen=True)
class Pins:
    """Of B slates of k. `columns` int64 [B, k]: the candidate that stands at each position, -1 where one is drawn;
    None: nothing is pinned."""

    columns: Ints | None

    @classmethod
    def of(cls, columns: Ints | None, logits: NDArray[np.floating], k: int) -> Pins:
        """Check the columns against the logits [B, C]; raises ValueError for a shape that is wrong, for a column
        without a candidate, and for one that is pinned twice."""
        if columns is None or not (columns >= 0).any():
            return cls(None)
        if columns.shape != (len(logits), k):
            raise ValueError(f"pinned has shape {columns.shape}, expected ({len(logits)}, {k})")
        row, place = np.nonzero(columns >= 0)
        column = columns[row, place]
        if (column >= logits.shape[1]).any() or np.isneginf(logits[row, column]).any():
            raise ValueError("pinned names a column that is not available")
        if len(np.unique(row * logits.shape[1] + column)) < len(row):
            raise ValueError("pinned names a column twice")
        return cls(columns)

    def others(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """The logits [B, C] of what is drawn from: -inf where pinned."""
        if self.columns is None:
            return logits
        left = logits.copy()
        row, place = np.nonzero(self.columns >= 0)
        left[row, self.columns[row, place]] = -np.inf
        return left

    def room(self, drawn: Ints) -> Ints:
        """Of k that were drawn [B, k], the first as many as positions are left; -1 beyond."""
        if self.columns is None:
            return drawn
        left = (self.columns < 0).sum(axis=1, keepdims=True)
        return np.where(np.arange(drawn.shape[1]) < left, drawn, -1)

    def sources(self, drawn: Ints) -> Ints:
        """Where each position comes from, int64 [B, k]: the n-th that was drawn (n below k), or the pin of place n - k.

        What is drawn fills the positions that are left, from the first on. Where too few were available, what comes
        after the gap moves up.
        """
        k = drawn.shape[1]
        if self.columns is None:
            return np.broadcast_to(np.arange(k), drawn.shape)
        pinned = self.columns >= 0
        sources = np.where(pinned, k + np.arange(k), np.cumsum(~pinned, axis=1) - 1)
        empty = ~pinned & (np.take_along_axis(drawn, np.minimum(sources, k - 1), axis=1) < 0)
        return np.take_along_axis(sources, np.argsort(empty, axis=1, kind="stable"), axis=1)

    def placed(self, sources: Ints, drawn: Floats, certain: float) -> Floats:
        """Numbers of the drawn [B, k], by position; of what is pinned, `certain`."""
        if self.columns is None:
            return drawn
        both = np.concatenate([drawn, np.full(drawn.shape, certain)], axis=1)
        return np.take_along_axis(both, sources, axis=1)

    def chosen(self, sources: Ints, drawn: Ints) -> Ints:
        """The columns by position, int64 [B, k]."""
        if self.columns is None:
            return drawn
        return np.take_along_axis(np.concatenate([drawn, self.columns], axis=1), sources, axis=1)

    def inclusion(self, position: Floats, inclusion: Floats) -> Floats:
        """P(among what is drawn) [B, m], of P(the n-th drawn) [B, m, k] and its sum over all n, [B, m]."""
        if self.columns is None:
            return inclusion
        left = (self.columns < 0).sum(axis=1)[:, None]
        within = np.arange(position.shape[2]) < left
        summed: Floats = np.minimum((position * within[:, None, :]).sum(axis=2), 1.0)
        return summed
