"""The check of examination by experiment: slates of which two positions were exchanged, and slates in random order.

Where an item stands by chance, clicks by position tell examination without any model of taste. An item that the policy
put at position q and that is shown at p is clicked with probability a_q · η_p: a_q is of the items that are put at q,
η_p of where they are looked at. Slates of the uniform arm are in random order: they have one a for all positions.
Counts of (q, p), as a Poisson log-linear model, give η by maximum likelihood, with standard errors; slates that were
not exchanged (q = p) tell a. When this curve and the learned one disagree by more than chance and by more than matters,
that is an alarm: the position-based model, or r̂, does not hold. Knows nothing of Kafka or of slates as messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RIDGE = 1e-3
"""Precision of a Gaussian prior of log η: what nothing is known of gets a huge error instead of none."""
STANDARD_ERRORS = 4.0
"""A difference of fewer is chance: with ten positions a false alarm in 1,600 independent looks."""
MATTERS = 0.1
"""A smaller relative difference of η is nothing to be alarmed about."""


@dataclass(frozen=True, slots=True)
class Curve:
    """η of n positions, beside the first: `examination` [n] and the standard error of its logarithm [n], 0 at first."""

    examination: Floats
    error: Floats

    def disagrees(self, other: Floats, error: Floats) -> Ints:
        """Positions (from 0) at which another curve [n], of such an `error` [n], differs by too much."""
        difference = np.abs(np.log(np.maximum(other, 1e-9)) - np.log(np.maximum(self.examination, 1e-9)))
        spread = np.sqrt(self.error**2 + error**2)
        found: Ints = np.flatnonzero((difference > STANDARD_ERRORS * spread) & (difference > MATTERS))
        return found[found > 0]


class SwapCheck:
    """Counts by intended and shown position. Not safe for concurrent mutation.

    `half_life`: slates after which one counts half. `positions`: most positions of a slate.
    """

    def __init__(self, half_life: float = 100_000.0, positions: int = 100) -> None:
        if not half_life > 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of slates")
        self.half_life, self.positions = half_life, positions
        self._keep = 2.0 ** (-1 / half_life)
        self._scale = 1.0  # newer slates weigh more, so that nothing old needs touching
        self._shown = np.zeros((positions + 1, positions))  # the last row: slates in random order
        self._clicks = np.zeros((positions + 1, positions))

    def learn(
        self, clicks: NDArray[np.bool_], *, swapped: tuple[int, int] | None = None, uniform: bool = False
    ) -> None:
        """One slate: what was clicked at each position [n], which two positions were exchanged after the draw, and
        whether its order was drawn uniformly. Raises ValueError for positions that it does not have."""
        intended = np.arange(len(clicks))
        if len(clicks) > self.positions or (swapped is not None and not 0 <= min(swapped) < max(swapped) < len(clicks)):
            raise ValueError(f"swapped is {swapped} in a slate of {len(clicks)} positions, at most {self.positions}")
        if uniform:
            intended[:] = self.positions
        elif swapped is not None:
            intended[list(swapped)] = intended[list(swapped)[::-1]]
        self._scale /= self._keep
        self._shown[intended, np.arange(len(clicks))] += self._scale
        self._clicks[intended, np.arange(len(clicks))] += self._scale * clicks
        if self._scale > 1e100:
            self._shown /= self._scale
            self._clicks /= self._scale
            self._scale = 1.0

    def curve(self, positions: int) -> Curve:
        """What the experiment says of the first so many positions."""
        rows = np.r_[np.arange(positions), self.positions]
        shown, clicks = (table[rows, :positions] / self._scale for table in (self._shown, self._clicks))
        parameters, covariance = _fitted(shown, clicks)
        return Curve(np.exp(np.r_[0.0, parameters]), np.sqrt(np.r_[0.0, np.diag(covariance)]))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: numbers, and of the cells that hold something `cell` int64 (row-major), `shown`
        and `clicks` float64, in units of `scale`."""
        cell = np.flatnonzero(self._shown)
        arrays = {"cell": cell, "shown": self._shown.ravel()[cell], "clicks": self._clicks.ravel()[cell]}
        return {"half_life": self.half_life, "positions": self.positions, "scale": self._scale, **arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> SwapCheck:
        """The check that gave `state`; arrays may come as lists. Raises ValueError when they disagree."""
        restored = cls(float(state["half_life"]), int(state["positions"]))
        cell = np.array(state["cell"], np.int64)
        shown, clicks = (np.array(state[name], np.float64) for name in ("shown", "clicks"))
        if not cell.shape == shown.shape == clicks.shape == (cell.size,):
            raise ValueError(
                f"cell, shown, clicks have shapes {cell.shape}, {shown.shape}, {clicks.shape}, expected one"
            )
        if cell.size and not 0 <= cell.min() <= cell.max() < restored._shown.size:
            raise ValueError(f"cell is {cell.min()} to {cell.max()}, expected 0 to {restored._shown.size - 1}")
        restored._scale = float(state["scale"])
        restored._shown.ravel()[cell], restored._clicks.ravel()[cell] = shown, clicks
        return restored


def _fitted(shown: Floats, clicks: Floats) -> tuple[Floats, Floats]:
    """log η of all positions but the first, [n - 1], and their covariance, from counts [n + 1, n] by row and position.

    Newton's method on the Poisson likelihood of clicks ~ shown · exp(a_row + log η_position), which is concave.
    """
    rows, n = shown.shape
    levels = np.log((clicks.sum(axis=1) + 0.5) / (shown.sum(axis=1) + 1.0))
    log_eta = np.zeros(n)
    precision = np.r_[np.full(rows, RIDGE), np.full(n - 1, RIDGE)]
    hessian = np.eye(rows + n - 1)
    for _ in range(50):
        expected = shown * np.exp(np.clip(levels[:, None] + log_eta, -30.0, 30.0))
        excess = clicks - expected
        gradient = np.r_[excess.sum(axis=1), excess.sum(axis=0)[1:]] - precision * np.r_[levels, log_eta[1:]]
        hessian = np.diag(precision + np.r_[expected.sum(axis=1), expected.sum(axis=0)[1:]])
        hessian[:rows, rows:] = expected[:, 1:]
        hessian[rows:, :rows] = expected[:, 1:].T
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        levels, log_eta[1:] = levels + step[:rows], log_eta[1:] + step[rows:]
        if np.abs(step).max() < 1e-9:
            break
    covariance: Floats = np.linalg.inv(hessian)[rows:, rows:].astype(np.float64)
    return log_eta[1:], covariance
