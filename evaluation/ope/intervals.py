"""How sure an off-policy estimate is. Users are the unit: rounds of one user are alike.

Three kinds, by what they rest on:

- `student`: the linearised estimate is about normal; cluster-robust standard error, Student's t with G - 1 degrees of
  freedom (Liang and Zeger, Biometrika 1986).
- `bootstrap`: users are drawn again and again. By percentiles, or studentised, where what is drawn is
  (estimate - value)/standard error (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 12-13): its ends
  follow the skewness that rare rewards and heavy weights give, at the price of being wide when they are few.
- `bernstein`: holds for every n, without normality, given only that rewards lie in [0, most] and that weights have
  mean 1 (Maurer and Pontil, COLT 2009; with clipped weights as in Thomas, Theocharous and Ghavamzadeh, AAAI 2015).

Knows nothing of where weights come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from evaluation.ope.ratio import Floats, Ints, Ratio

_PARTS = ("numerator", "denominator")
_DRAWN_AT_ONCE = 4_000_000
_ALIKE = 5
_MOST_DRAWN = 20_000  # more clusters are first put together at random: what is left of their variance is exact to 1%


class Interval(NamedTuple):
    low: float
    high: float


def standard_error(ratio: Ratio, cluster: Ints) -> float:
    """Cluster-robust standard error; `cluster` int64 [n] says whose each round is. nan for a single cluster."""
    _, code = np.unique(cluster, return_inverse=True)
    sums = np.bincount(code, ratio.influence())
    groups = len(sums)
    if groups < 2:
        return math.nan
    return float(math.sqrt(groups / (groups - 1) * (sums @ sums)) / ratio.rounds)


def student(ratio: Ratio, cluster: Ints, level: float = 0.95) -> Interval:
    """Value ± t · standard error."""
    half = stats.t.ppf((1 + level) / 2, max(len(np.unique(cluster)) - 1, 1)) * standard_error(ratio, cluster)
    return Interval(ratio.value - half, ratio.value + half)


def bootstrap(
    ratio: Ratio, cluster: Ints, level: float = 0.95, *, studentised: bool = True, replicates: int = 1000, seed: int = 0
) -> Interval:
    """By drawing clusters with replacement, as many as there are; draws without any weight are left out."""
    (drawn,) = draw([ratio], cluster, replicates=replicates, seed=seed)
    return drawn.interval(level, studentised=studentised)


@dataclass(frozen=True, slots=True)
class Drawn:
    """An estimate, its standard error, and both in samples drawn anew: `again` [replicates, 2]."""

    value: float
    error: float
    again: Floats

    def interval(self, level: float, *, studentised: bool = True) -> Interval:
        """By quantiles; (nan, nan) when fewer than half of the samples have a value."""
        finite = self.again[np.isfinite(self.again).all(axis=1)]
        if len(finite) < len(self.again) / 2:
            return Interval(math.nan, math.nan)
        tails = [(1 - level) / 2, (1 + level) / 2]
        if not studentised:
            low, high = np.quantile(finite[:, 0], tails).tolist()
            return Interval(low, high)
        low, high = np.quantile((finite[:, 0] - self.value) / finite[:, 1], tails).tolist()
        return Interval(self.value - high * self.error, self.value - low * self.error)


def draw(ratios: Sequence[Ratio], cluster: Ints, *, replicates: int = 1000, seed: int = 0) -> list[Drawn]:
    """Draw clusters with replacement, as many as there are, the same ones for all estimates of the same rounds."""
    random = np.random.default_rng(seed)
    widths = np.cumsum([one.numerator.shape[1] for one in ratios])
    whole = Ratio(*(np.concatenate([getattr(one, part) for one in ratios], axis=1) for part in _PARTS))
    groups = whole.by_cluster(cluster)
    if groups.rounds > _MOST_DRAWN:
        groups = groups.by_cluster(random.permutation(groups.rounds) % _MOST_DRAWN)
    count = groups.rounds
    kinds, alike = np.unique(np.concatenate([groups.numerator, groups.denominator], axis=1), axis=0, return_counts=True)
    few = len(kinds) < count / _ALIKE  # most users of rare rewards contribute the same: then kinds are drawn
    drawn = Ratio(*np.hsplit(kinds, 2)) if few else groups
    weights = alike.astype(np.float64) if few else np.ones(count)
    each = [
        Ratio(*(part[:, end - one.numerator.shape[1] : end] for part in (drawn.numerator, drawn.denominator)))
        for one, end in zip(ratios, widths.tolist(), strict=True)
    ]
    found: list[list[Floats]] = [[] for _ in ratios]
    for size in _pieces(replicates, max(_DRAWN_AT_ONCE // drawn.rounds, 1)):
        times = _times(random, weights, count, size)
        for one, parts in zip(each, found, strict=True):
            parts.append(np.stack([one.resampled(times), _errors(one, times, count)], axis=1))
    errors = [float(_errors(one, weights[None], count)[0]) for one in each]
    return [
        Drawn(one.value, error, np.concatenate(parts)) for one, error, parts in zip(ratios, errors, found, strict=True)
    ]


def _times(random: np.random.Generator, weights: Floats, count: int, size: int) -> Floats:
    """How often each kind comes when `count` clusters are drawn, [size, kinds]; `weights`: how many there are."""
    if len(weights) < count:
        return random.multinomial(count, weights / count, size).astype(np.float64)
    at = random.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
    return np.bincount(at.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _pieces(whole: int, most: int) -> list[int]:
    return [min(most, whole - begin) for begin in range(0, whole, most)]


def _errors(groups: Ratio, times: Floats, count: int) -> Floats:
    """Standard error of the estimate in each sample [b] of `count` clusters, where each contribution counts `times`
    [b, G]: the sum of squares of Σ_j a_j N_ij - c_j D_ij, with a, c of the sample, by its cross products. inf where
    nothing varies."""
    both = np.concatenate([groups.numerator, groups.denominator], axis=1)
    width = both.shape[1]
    products = (both[:, :, None] * both[:, None, :]).reshape(len(both), width * width)
    second = (times @ products).reshape(len(times), width, width)
    numerators, denominators = times @ groups.numerator, times @ groups.denominator
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.concatenate([1 / denominators, -numerators / denominators**2], axis=1)
        variance = np.einsum("bi,bij,bj->b", factor, second, factor)
    spread = variance * count / max(count - 1, 1)
    return np.where(spread > 0, np.sqrt(np.maximum(spread, 0)), np.inf)


def bernstein(
    weight: Floats, reward: Floats, cluster: Ints, clip: float, most: float = 1.0, level: float = 0.95
) -> Interval:
    """An interval of the value itself, though weights be unbounded: `weight` and `reward` [n].

    Clipping at `clip` = M loses E[(w - M)+ r], between 0 and most · (1 - E min(w, M)), since weights have mean 1. So
    the value lies between the lower bound of E[min(w, M) r] and its upper bound plus `most` times the upper bound of
    1 - E min(w, M); each of the three bounds may fail with a third of 1 - level. It is cut to [0, most].

    Clusters are taken as independent, their sizes as given. Raises ValueError for a reward outside [0, most].
    """
    if reward.min() < 0 or reward.max() > most:
        raise ValueError(f"rewards lie in [{reward.min()}, {reward.max()}], expected [0, {most}]")
    clipped = np.minimum(weight, clip)
    failing = (1 - level) / 3
    gained = clipped * reward
    kept = clipped.mean() - _deviation(clipped, cluster, clip, failing)
    low = gained.mean() - _deviation(gained, cluster, clip * most, failing)
    high = gained.mean() + _deviation(gained, cluster, clip * most, failing) + most * max(0.0, 1 - kept)
    return Interval(float(max(low, 0.0)), float(min(high, most)))


def _deviation(value: Floats, cluster: Ints, bound: float, failing: float) -> float:
    """How far below (or above) its expectation the mean of `value` in [0, bound] is with probability `failing` at
    most: Maurer and Pontil's theorem 11, for independent clusters, whose means are weighted by their sizes."""
    _, code = np.unique(cluster, return_inverse=True)
    sizes = np.bincount(code)
    groups = len(sizes)
    if groups < 2:
        return math.inf
    scaled = np.bincount(code, value) * (groups / len(value))
    bound *= float(sizes.max()) * groups / len(value)
    logarithm = math.log(2 / failing)
    spread = math.sqrt(2 * float(scaled.var(ddof=1)) * logarithm / groups)
    return spread + 7 * bound * logarithm / (3 * (groups - 1))
