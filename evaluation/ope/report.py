"""From weights and estimates to what can be said: values with intervals, or why nothing is said.

An estimate is

- `refused` where the weights of its family say so (`overlap.Overlap.refusals`), without a number;
- `poor` where its contributions are too skewed for a normal 95% interval (Cochran's rule): its interval is the
  studentised bootstrap's with a fifth of the failures, 99% for 95%, which bench/ope_coverage.py finds to cover 95%;
- `fair` otherwise, with the studentised bootstrap by user.

Beside them stands an interval that needs no normality (`intervals.bernstein`). Knows nothing of where weights and
predictions come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.ope import intervals
from evaluation.ope.intervals import Drawn, Interval
from evaluation.ope.overlap import SYMMETRIC, Overlap, Verdict, measure, symmetry
from evaluation.ope.ratio import Floats, Ints, Ratio, mean

_CLIPS = (1.0, 2.0, 5.0, 10.0, 20.0)
_POOR = 0.2
UNBOUNDED = math.inf


@dataclass(frozen=True, slots=True)
class Settings:
    """How intervals are made. `most`: the largest reward of a round that there can be; UNBOUNDED: not known.
    `compare`: also draw the difference against the log."""

    level: float = 0.95
    replicates: int = 1000
    clip: float = 20.0
    most: float = 1.0
    seed: int = 0
    compare: bool = True


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one estimator says. Numbers are None where it is refused, ends where it has no interval.

    Attributes:
        name: of the estimator.
        verdict: fair, poor or refused.
        value, low, high: estimate and interval of the target's value.
        difference, difference_low, difference_high: against what the log earned, on the same draws of users.
        symmetry: n / skewness² of its contributions; from SYMMETRIC on it is fair.
        biased: it leaves something out on purpose; its interval holds that of the estimator which does not.
    """

    name: str
    verdict: Verdict
    value: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    symmetry: float | None = None
    biased: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """Estimators that share their weights.

    Attributes:
        name: what the family is called.
        assumes: on what a reward may depend for its estimates to be right.
        overlap: its weights.
        reasons: why it is refused; empty: it is not.
        estimates: one for each estimator.
        certain: the interval by empirical Bernstein bounds, for every n and any skewness; None where rewards have no
            known maximum, or the mean weight is not 1.
    """

    name: str
    assumes: str
    overlap: Overlap
    reasons: list[str]
    estimates: list[Estimate]
    certain: Interval | None


@dataclass(frozen=True, slots=True)
class Weighted:
    """A family before it is judged.

    `weight` and `reward` [n, J] say how well the target is covered; `ratios` are its estimators by name, those of
    `plain` without an interval. `biased` names for each of those that leave something out the one that does not: its
    interval holds the other's. `most`: the largest reward of this family, None: that of the settings.
    """

    name: str
    assumes: str
    weight: Floats
    reward: Floats
    ratios: Mapping[str, Ratio]
    biased: Mapping[str, str] = field(default_factory=dict)
    plain: Sequence[str] = ()
    most: float | None = None


def logged_value(reward: Floats, cluster: Ints, settings: Settings) -> Estimate:
    """What the log itself earned: mean over rounds of `reward` [n, J] summed over J."""
    ratio = mean(reward)
    (drawn,) = _drawn([ratio], cluster, settings)
    verdict, level, symmetric = _verdict(ratio, cluster, settings)
    return Estimate("logged", verdict, ratio.value, *drawn.interval(level), symmetry=symmetric)


def judged(family: Weighted, cluster: Ints, settings: Settings) -> Family:
    """Say what can be said; `cluster` int64 [n] says whose each round is."""
    flat = family.weight.ravel(), family.reward.ravel(), np.repeat(cluster, family.weight.shape[1])
    overlap = measure(*flat, settings.clip)
    certain = _certain(family, flat, settings) if overlap.mean_is_one else None
    reasons = overlap.refusals()
    if reasons:
        refused = [Estimate(name, "refused") for name in family.ratios]
        return Family(family.name, family.assumes, overlap, reasons, refused, certain)
    drawable = {name: ratio for name, ratio in family.ratios.items() if name not in family.plain}
    against = [_less(ratio, family.reward) for ratio in drawable.values()] if settings.compare else []
    drawn = _drawn([*drawable.values(), *against], cluster, settings)
    found: dict[str, Estimate] = {}
    for at, (name, ratio) in enumerate(drawable.items()):
        verdict, level, symmetric = _verdict(ratio, cluster, settings)
        found[name] = Estimate(name, verdict, ratio.value, *drawn[at].interval(level), symmetry=symmetric)
        if settings.compare:
            difference = drawn[len(drawable) + at]
            low, high = difference.interval(level)
            found[name] = replace(found[name], difference=difference.value, difference_low=low, difference_high=high)
        if name in family.biased:
            found[name] = _honest(found[name], found[family.biased[name]])
    for name in family.ratios.keys() - drawable.keys():
        found[name] = Estimate(name, "fair", family.ratios[name].value, biased=True)
    return Family(family.name, family.assumes, overlap, reasons, list(found.values()), certain)


def _verdict(ratio: Ratio, cluster: Ints, settings: Settings) -> tuple[Verdict, float, float]:
    """Fair or poor, the level of the interval for that, and the symmetry it follows from."""
    symmetric = symmetry(ratio, cluster)
    if symmetric >= SYMMETRIC:
        return "fair", settings.level, symmetric
    return "poor", 1 - (1 - settings.level) * _POOR, symmetric


def _certain(family: Weighted, flat: tuple[Floats, Floats, Ints], settings: Settings) -> Interval | None:
    """The narrowest over clips, each of which may fail with its part of 1 - level."""
    most = settings.most if family.most is None else family.most
    if math.isinf(most):
        return None
    level = 1 - (1 - settings.level) / len(_CLIPS)
    each = [intervals.bernstein(*flat, clip, most, level) for clip in _CLIPS]
    positions = family.weight.shape[1]
    return Interval(positions * max(one.low for one in each), positions * min(one.high for one in each))


def _honest(biased: Estimate, whole: Estimate) -> Estimate:
    """An estimate that leaves something out is no surer of the value than the one that does not: how much it leaves
    out is known from the same rounds only. Its interval holds both."""

    def hull(name: str) -> dict[str, float | None]:
        ends = [getattr(one, f"{name}_{end}" if name else end) for one in (biased, whole) for end in ("low", "high")]
        known = [one for one in ends if one is not None]
        both = (min(known), max(known)) if len(known) == len(ends) else (None, None)
        return dict(zip((f"{name}_low".strip("_"), f"{name}_high".strip("_")), both, strict=True))

    return replace(biased, verdict=whole.verdict, biased=True, **hull(""), **hull("difference"))  # type: ignore[arg-type]


def _less(ratio: Ratio, logged: Floats) -> Ratio:
    """The estimate less the log's own mean, as one sum of ratios, so that both are drawn together."""
    return Ratio(
        np.concatenate([ratio.numerator, -logged], axis=1),
        np.concatenate([ratio.denominator, np.ones_like(logged)], axis=1),
    )


def _drawn(ratios: Sequence[Ratio], cluster: Ints, settings: Settings) -> list[Drawn]:
    return intervals.draw(ratios, cluster, replicates=settings.replicates, seed=settings.seed)
