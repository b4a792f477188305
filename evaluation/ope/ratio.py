"""The common form of off-policy estimates, and how it varies: a sum of ratios of sums over logged rounds.

Every estimator of `bandit` and `slates` gives for each round what it adds to numerators and denominators. From that
follow its value, its linearisation, and what it is when users are drawn anew. Knows nothing of policies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The estimate Σ_j (Σ_i numerator_ij / Σ_i denominator_ij), i over rounds, j over positions.

    `numerator` and `denominator` float64 [n, J]; a plain mean has denominators of 1. Raises ValueError when there is
    no round, the shapes differ, or a number is not finite.
    """

    numerator: Floats
    denominator: Floats

    def __post_init__(self) -> None:
        if self.numerator.ndim != 2 or self.numerator.shape != self.denominator.shape or not self.numerator.size:
            raise ValueError(
                f"numerator {self.numerator.shape} and denominator {self.denominator.shape}, expected one shape [n, J]"
            )
        if not (np.isfinite(self.numerator).all() and np.isfinite(self.denominator).all()):
            raise ValueError("numerator or denominator is not finite: check weights, rewards and predictions")

    @property
    def rounds(self) -> int:
        return len(self.numerator)

    @property
    def value(self) -> float:
        """The estimate; nan where a denominator is 0."""
        return float(_value(self.numerator.sum(axis=0), self.denominator.sum(axis=0)))

    def influence(self) -> Floats:
        """Linearised contribution of each round, [n], with mean 0: value + mean(influence of a new sample) is what
        the estimate would be there, to first order (delta method)."""
        numerators, denominators = self.numerator.sum(axis=0), self.denominator.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            residual = self.numerator - self.denominator * (numerators / denominators)
            return np.asarray((residual * (self.rounds / denominators)).sum(axis=1))

    def by_cluster(self, cluster: Ints) -> Ratio:
        """The same estimate with the rounds of a cluster summed up: [G, J], clusters in ascending order."""
        _, code = np.unique(cluster, return_inverse=True)
        return Ratio(*(_grouped(array, code) for array in (self.numerator, self.denominator)))

    def resampled(self, times: NDArray[np.integer] | Floats) -> Floats:
        """The estimate when round i counts `times`[b, i] times, [b]."""
        return _value(times @ self.numerator, times @ self.denominator)


def mean(contribution: Floats) -> Ratio:
    """The plain mean over rounds of [n], or the sum over positions of means of [n, J]."""
    columns = contribution if contribution.ndim == 2 else contribution[:, None]
    return Ratio(columns, np.ones_like(columns))


def self_normalised(weight: Floats, reward: Floats) -> Ratio:
    """Σ w r / Σ w by position; [n] or [n, J] both."""
    if weight.ndim == 1:
        weight, reward = weight[:, None], reward[:, None]
    return Ratio(weight * reward, weight)


def _value(numerators: Floats, denominators: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((numerators / denominators).sum(axis=-1))


def _grouped(array: Floats, code: Ints) -> Floats:
    groups = int(code.max()) + 1
    return np.stack([np.bincount(code, column, groups) for column in array.T], axis=1)
