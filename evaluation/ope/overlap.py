"""Whether logged traffic can say anything about a policy: diagnostics of its weights, and a verdict.

Weights of a policy whose support the log covers have mean 1. Few rounds with most of the weight, or a mean that is not
1, mean that an estimate is a matter of luck, and that its standard error is as well: then none is better than a wrong
one. Knows nothing of where weights come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evaluation.ope.intervals import Interval, standard_error, student
from evaluation.ope.ratio import Floats, Ints, Ratio, mean

MEAN_LEVEL = 0.999  # of the interval that must hold 1: of good logs one in a thousand is refused
LEAST_EFFECTIVE = 50.0  # effective sample, in users, below which nothing is said
LARGEST_SHARE = 0.2  # of all weight that a single user may have
LEAST_REWARDED = 5.0  # effective rewarded rounds below which nothing is said
SYMMETRIC = 25.0  # Cochran (Sampling Techniques, 1977, 2.15): n > 25 skewness² for a normal 95% interval

Verdict = Literal["fair", "poor", "refused"]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What weights look like.

    Attributes:
        rounds, clusters: how many rounds, of how many users.
        mean, mean_low, mean_high: mean weight and its 99.9% interval; 1 must lie in it.
        effective: Kish's effective sample size (Σw)²/Σw², of users when there are some: W is a user's sum then.
        largest: the largest weight of a round.
        largest_share: of all weight, the part of the user with the most.
        clipped: share of rounds whose weight is above the clip.
        rewarded: (Σ w r)²/Σ (w r)² by user: how many rewarded users the estimate rests on.
    """

    rounds: int
    clusters: int
    mean: float
    mean_low: float
    mean_high: float
    effective: float
    largest: float
    largest_share: float
    clipped: float
    rewarded: float

    @property
    def mean_is_one(self) -> bool:
        """Whether the mean weight may be 1, as that of right propensities is."""
        return self.mean_low <= 1 <= self.mean_high

    def refusals(self) -> list[str]:
        """Why nothing should be said; empty: something can be."""
        found = []
        if not self.mean_is_one:
            found.append(
                f"the mean weight is {self.mean:.3g}, its 99.9% interval {self.mean_low:.3g} to {self.mean_high:.3g} "
                "excludes 1: propensities are wrong, or the target shows what the log hardly ever did"
            )
        if not self.effective >= LEAST_EFFECTIVE:
            found.append(f"the effective sample is {self.effective:.1f}, expected at least {LEAST_EFFECTIVE:.0f}")
        if not self.largest_share <= LARGEST_SHARE:
            found.append(f"{self.largest_share:.0%} of all weight is one unit's, expected at most {LARGEST_SHARE:.0%}")
        if not self.rewarded >= LEAST_REWARDED:
            found.append(
                f"estimates rest on {self.rewarded:.1f} effective rewards, expected at least {LEAST_REWARDED:.0f}"
            )
        return found


def measure(weight: Floats, reward: Floats, cluster: Ints, clip: float) -> Overlap:
    """Diagnostics of weights [n], with the rewards [n] and users [n] of the rounds.

    Raises ValueError for a weight that is negative or not finite.
    """
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("a weight is negative or not finite, expected ratios of probabilities")
    _, code = np.unique(cluster, return_inverse=True)
    sums = np.bincount(code, weight).astype(np.float64)
    low, high = _mean_interval(mean(weight), cluster)
    total = float(sums.sum())
    return Overlap(
        rounds=len(weight),
        clusters=len(sums),
        mean=float(weight.mean()),
        mean_low=low,
        mean_high=high,
        effective=_effective(sums, np.bincount(code).astype(np.float64)),
        largest=float(weight.max()),
        largest_share=float(sums.max()) / total if total > 0 else 1.0,
        clipped=float((weight > clip).mean()),
        rewarded=_kish(np.bincount(code, weight * np.abs(reward)).astype(np.float64)),
    )


def symmetry(ratio: Ratio, cluster: Ints) -> float:
    """n / skewness² of the contributions by user: above SYMMETRIC an interval of the value can be trusted.

    With weights of 1 and rare rewards it is about the number of rewards.
    """
    _, code = np.unique(cluster, return_inverse=True)
    sums = np.bincount(code, ratio.influence())
    second, third = float((sums**2).sum()), float((sums**3).sum())
    return math.inf if third == 0 else second**3 / third**2


def _mean_interval(weights: Ratio, cluster: Ints) -> Interval:
    if standard_error(weights, cluster) <= 1e-12:  # as for a target that is the logging policy
        return Interval(weights.value - 1e-9, weights.value + 1e-9)
    return student(weights, cluster, MEAN_LEVEL)


def _kish(values: Floats) -> float:
    squares = float((values**2).sum())
    return float(values.sum()) ** 2 / squares if squares > 0 else 0.0


def _effective(sums: Floats, sizes: Floats) -> float:
    """Of users, corrected for their sizes: with all weights 1 it is the number of users."""
    return len(sums) * _kish(sums) / _kish(sizes)
