"""How a batch of slates is drawn, and every probability that off-policy estimates need of it.

A slate is drawn from the ε-mixture of Plackett-Luce and uniform (`policy.mixture`), but for positions that are pinned
to an item. Here temperature and ε may differ from row to row. Arrays only; knows nothing of users, items or rewards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evaluation.ope.ratio import Floats, Ints
from policy import mixture, swaps


@dataclass(frozen=True, slots=True)
class SlatePolicy:
    """A policy over the same candidates as another, B slates of k.

    Attributes:
        scaled: float64 [B, C], logit/temperature, -inf in empty columns.
        epsilon: float64 [B], share of uniform slates.
        pinned: int64 [B, k], the column that a position is pinned to, or -1. A pinned column stands nowhere else.
        exchanged: float64 [B], share of slates in which two neighbours change places after the draw; None: of none.
    """

    scaled: Floats
    epsilon: Floats
    pinned: Ints
    exchanged: Floats | None = None

    def conditional(self, chosen: Ints) -> Floats:
        """P(item at k | those before), float64 [B, k]; 1 where `chosen` [B, k] is -1 (empty), and where pinned.

        0 where a pinned position shows something else: this policy never shows that slate.
        """
        found = np.where((self.pinned >= 0) & (self.pinned != chosen), 0.0, 1.0)
        for rows, free, epsilon, share in self._alike():
            shown = chosen[np.ix_(rows, free)]
            found[np.ix_(rows, free)] = mixture.chain(self._free(rows), shown, 1.0, epsilon, share)[0]
        return found

    def marginals(self, columns: Ints | None = None) -> Floats:
        """P(item at k) for every candidate, or for the `columns` int64 [B, m] (-1: none), float64 [B, m, k]."""
        if columns is None:
            columns = np.broadcast_to(np.arange(self.scaled.shape[1]), self.scaled.shape)
        found = (columns[:, :, None] == self.pinned[:, None, :]) & (columns[:, :, None] >= 0)
        whole: Floats = found.astype(np.float64)
        for rows, free, epsilon, share in self._alike():
            left = self._free(rows)
            position, _ = mixture.marginals(left, len(free), 1.0, epsilon, columns[rows])
            if share:
                filled = np.arange(len(free)) < np.isfinite(left).sum(axis=1, keepdims=True)
                position = swaps.spread(position, np.where(filled, 0, -1), share)
            whole[np.ix_(rows, np.arange(columns.shape[1]), free)] = position
        return whole

    def following(self, chosen: Ints) -> Iterator[Floats]:
        """For each position the distribution over candidates given what `chosen` shows before it, float64 [B, C].

        Of what is drawn: where neighbours may change places it is off by their share at most.
        """
        before = np.zeros((2, len(chosen)))  # log-probability of what is shown so far: Plackett-Luce, uniform
        with np.errstate(divide="ignore"):
            arms = np.log(np.stack([1 - self.epsilon, self.epsilon]))
        left = self._free(np.arange(len(chosen)))
        row = np.arange(len(chosen))
        for k, column in enumerate(chosen.T):
            each = [_log_softmax(left), _log_softmax(np.where(np.isinf(left), left, 0.0))]
            share = special.softmax(arms + before, axis=0)
            mixed = share[0][:, None] * np.exp(each[0]) + share[1][:, None] * np.exp(each[1])
            held = self.pinned[:, k] >= 0
            mixed[held] = 0.0
            mixed[held, self.pinned[held, k]] = 1.0
            yield mixed
            drawn = ~held & (column >= 0)
            for arm in range(2):
                before[arm, drawn] += each[arm][row[drawn], column[drawn]]
            left[row[drawn], column[drawn]] = -np.inf

    def _free(self, rows: Ints) -> Floats:
        """Scaled logits of the candidates that are not pinned."""
        scaled = self.scaled[rows].copy()
        at = np.nonzero(self.pinned[rows] >= 0)
        scaled[at[0], self.pinned[rows][at]] = -np.inf
        return scaled

    def _alike(self) -> Iterator[tuple[Ints, Ints, float, float]]:
        """Rows with one ε, one share of exchanges and the same positions free; those positions, ε, the share."""
        exchanged = np.zeros(len(self.epsilon)) if self.exchanged is None else self.exchanged
        kinds = np.column_stack([self.epsilon, exchanged, self.pinned >= 0])
        patterns, code = np.unique(kinds, axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            free = np.flatnonzero(pattern[2:] == 0)
            if len(free):
                yield np.flatnonzero(code.ravel() == number), free, float(pattern[0]), float(pattern[1])


def _log_softmax(scaled: Floats) -> Floats:
    """By row; a row with nothing left stays at -inf."""
    some = np.isfinite(scaled).any(axis=1, keepdims=True)
    return np.where(some, special.log_softmax(np.where(some, scaled, 0.0), axis=1), -np.inf)


def scaled(logits: NDArray[np.floating], temperature: Floats) -> Floats:
    """logit/temperature, float64 [B, C]; `temperature` [B]."""
    return np.asarray(logits.astype(np.float64) / temperature[:, None])
