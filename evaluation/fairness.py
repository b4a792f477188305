"""How even-handed slates were: gaps between groups of users, and between their shares of exposure, with intervals.

Everything is said three times: of slates as they were served, of those that were drawn uniformly from the candidates
(the ε arm), and, from all, with every shown item weighted by P(it here, drawn uniformly) / π(it here) (self-normalised,
SNIPS), which estimates the second from far more slates. What is there of a gap on randomised traffic is preference; the
rest is exposure.

Intervals are 95% ones from the influence of each user on an estimate: slates of one user are alike and count as one.
Knows the contracts' outcomes; knows nothing of Kafka or of controllers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from policy.group_rates import MAX_WEIGHT, MIN_EXAMINATION
from streams.contracts import Outcome

Floats = NDArray[np.float64]
Z = 1.959964
NONE = "(none)"
MOST_USER_GROUPS = 12
"""Named in a report; slates of further ones are counted together with those of users without a group."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number and its 95% interval; NaN where there was nothing to tell it from."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class UserGroup:
    """Of one group of users: how much there was of it, and clicks an item shown."""

    name: str
    users: int
    slates: int
    uniform_slates: int
    served: Estimate
    randomised: Estimate
    reweighted: Estimate


@dataclass(frozen=True, slots=True)
class Gap:
    """Of two groups of users: the difference of their click rates, and the relative gap 1 − smaller / larger."""

    a: str
    b: str
    served: Estimate
    randomised: Estimate
    reweighted: Estimate
    beyond: Estimate  # served − randomised, of the differences: what is exposure
    relative: Estimate
    relative_randomised: Estimate


@dataclass(frozen=True, slots=True)
class Pair:
    """Of one group of users and one of items: shares of the exposure that grouped items had; share of merit, by clicks
    with position and selection taken out; and how far exposure is behind merit."""

    user: str
    item: str
    served: Estimate
    randomised: Estimate
    merit: Estimate
    behind: Estimate


@dataclass(frozen=True, slots=True)
class Cost:
    """Clicks a slate, of those that a controller steered and of those it left alone; what it gives up, relative."""

    steered: Estimate
    alone: Estimate
    given_up: Estimate


@dataclass(frozen=True, slots=True)
class Fairness:
    """A report. `slates` were read, `ungrouped` of them told nothing of item groups."""

    slates: int
    ungrouped: int
    users: list[UserGroup]
    gaps: list[Gap]
    pairs: list[Pair]
    cost: Cost | None


@dataclass
class Slates:
    """Outcomes of driftline's own slates as columns. `examination` says how likely each of k positions is looked at."""

    user: list[str] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    uniform: list[bool] = field(default_factory=list)
    steered: list[bool | None] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    worth: list[float] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    exposure: list[dict[str, float]] = field(default_factory=list)
    merit: list[dict[str, float]] = field(default_factory=list)

    def take(self, outcome: Outcome, examination: Floats) -> None:
        """Take one in; another system's slate, or an empty one, tells nothing."""
        size = len(outcome.items)
        if outcome.origin != "driftline" or not size:
            return
        clicked = np.array(outcome.rewards) > 0
        inclusion = np.array(outcome.inclusion if outcome.inclusion is not None else [np.nan] * size)
        inclusion[outcome.pinned] = np.nan
        worth = clicked / np.clip(inclusion, 1 / MAX_WEIGHT, 1.0) / np.maximum(examination[:size], MIN_EXAMINATION)
        worth = np.nan_to_num(worth)
        there = np.array(outcome.propensity if outcome.propensity is not None else [np.nan] * size)
        there[outcome.pinned] = np.nan
        weight = np.nan_to_num(np.minimum(1 / (outcome.candidates * there), MAX_WEIGHT))
        exposure: dict[str, float] = {}
        merit: dict[str, float] = {}
        for at, name in enumerate(outcome.item_groups):
            if name is not None:
                exposure[name] = exposure.get(name, 0.0) + float(examination[at])
                merit[name] = merit.get(name, 0.0) + float(worth[at])
        self.user.append(outcome.user)
        self.group.append(outcome.group or NONE)
        self.uniform.append(bool(outcome.uniform))
        self.steered.append(outcome.steered)
        self.clicks.append(float(clicked.sum()))
        self.shown.append(size)
        self.worth.append(float((weight * clicked).sum()))
        self.weight.append(float(weight.sum()))
        self.exposure.append(exposure)
        self.merit.append(merit)


class _Measured:
    """An estimate and each slate's influence on it, from which those of differences follow."""

    def __init__(self, value: float, influence: Floats) -> None:
        self.value, self.influence = value, influence

    def __sub__(self, other: _Measured) -> _Measured:
        return _Measured(self.value - other.value, self.influence - other.influence)


class _Report:
    def __init__(self, slates: Slates) -> None:
        self.slates = slates
        _, self.cluster = np.unique(np.array(slates.user, dtype=object).astype(str), return_inverse=True)
        self.uniform = np.array(slates.uniform, np.bool_)
        self.clicks, self.shown = np.array(slates.clicks), np.array(slates.shown, np.float64)
        self.worth, self.weight = np.array(slates.worth), np.array(slates.weight)
        names, counts = np.unique(np.array(slates.group), return_counts=True)
        kept = names[np.argsort(-counts, kind="stable")][:MOST_USER_GROUPS].tolist()
        self.group = np.array([name if name in kept else NONE for name in slates.group])
        self.groups = [name for name in sorted(set(self.group.tolist())) if name != NONE]

    def ratio(self, above: Floats, below: Floats, among: NDArray[np.bool_]) -> _Measured:
        """Σ above / Σ below over some slates."""
        total = float(below[among].sum())
        if not total > 0:
            return _Measured(math.nan, np.zeros(len(above)))
        value = float(above[among].sum()) / total
        return _Measured(value, np.where(among, (above - value * below) / total, 0.0))

    def interval(self, measured: _Measured) -> Estimate:
        """The 95% interval, users being what was drawn."""
        by_user = np.bincount(self.cluster, weights=measured.influence)
        drawn = int((np.bincount(self.cluster, weights=measured.influence != 0) > 0).sum())
        if drawn < 2 or math.isnan(measured.value):
            return Estimate(measured.value, math.nan, math.nan)
        half = Z * math.sqrt(float((by_user**2).sum()) * drawn / (drawn - 1))
        return Estimate(measured.value, measured.value - half, measured.value + half)

    def rates(self, name: str) -> tuple[_Measured, _Measured, _Measured]:
        """Clicks an item shown: served, randomised, reweighted."""
        among = self.group == name
        served = self.ratio(self.clicks, self.shown, among & ~self.uniform)
        randomised = self.ratio(self.clicks, self.shown, among & self.uniform)
        return served, randomised, self.ratio(self.worth, self.weight, among)

    def user_group(self, name: str) -> UserGroup:
        among = self.group == name
        users = len(np.unique(self.cluster[among]))
        rates = (self.interval(rate) for rate in self.rates(name))
        return UserGroup(name, users, int(among.sum()), int((among & self.uniform).sum()), *rates)

    def gap(self, a: str, b: str) -> Gap:
        of_a, of_b = self.rates(a), self.rates(b)
        differences = [one - other for one, other in zip(of_a, of_b, strict=True)]
        served, randomised, reweighted = map(self.interval, differences)
        beyond = self.interval(differences[0] - differences[1])
        relative = (self.relative(of_a[at], of_b[at]) for at in (0, 1))
        return Gap(a, b, served, randomised, reweighted, beyond, *relative)

    def relative(self, a: _Measured, b: _Measured) -> Estimate:
        """1 − smaller / larger, from the interval of the logarithm of the ratio."""
        if not (a.value > 0 and b.value > 0):
            return Estimate(math.nan, math.nan, math.nan)
        log = _Measured(math.log(a.value / b.value), a.influence / a.value - b.influence / b.value)
        found = self.interval(log)
        ends = sorted(1 - math.exp(-abs(end)) for end in (found.low, found.high))
        return Estimate(1 - math.exp(-abs(log.value)), 0.0 if found.low < 0 < found.high else ends[0], ends[1])

    def pairs(self, name: str) -> list[Pair]:
        among = self.group == name
        items = sorted({item for exposure in self.slates.exposure for item in exposure})
        exposed = {item: np.array([one.get(item, 0.0) for one in self.slates.exposure]) for item in items}
        liked = {item: np.array([one.get(item, 0.0) for one in self.slates.merit]) for item in items}
        shown, worth = sum(exposed.values(), np.zeros(len(among))), sum(liked.values(), np.zeros(len(among)))
        found = []
        for item in items:
            served = self.ratio(exposed[item], shown, among & ~self.uniform)
            randomised = self.ratio(exposed[item], shown, among & self.uniform)
            merit = self.ratio(liked[item], worth, among)
            numbers = map(self.interval, (served, randomised, merit, merit - served))
            found.append(Pair(name, item, *numbers))
        return found

    def cost(self) -> Cost | None:
        ones = np.ones(len(self.clicks))
        arms = [np.array([one is arm for one in self.slates.steered]) & ~self.uniform for arm in (True, False)]
        steered, alone = (self.ratio(self.clicks, ones, arm) for arm in arms)
        if math.isnan(steered.value) or math.isnan(alone.value) or not alone.value > 0:
            return None
        ratio = steered.value / alone.value
        influence = -(steered.influence - ratio * alone.influence) / alone.value
        return Cost(*map(self.interval, (steered, alone, _Measured(1 - ratio, influence))))


def measure(slates: Slates) -> Fairness:
    """Say how even-handed the slates were. Raises ValueError when there are none."""
    if not slates.user:
        raise ValueError("there is no outcome of a slate of driftline's to measure")
    report = _Report(slates)
    grouped = [name for name in report.groups if name != NONE]
    named = grouped + ([NONE] if NONE in report.group else [])
    return Fairness(
        slates=len(slates.user),
        ungrouped=sum(not exposure for exposure in slates.exposure),
        users=[report.user_group(name) for name in named],
        gaps=[report.gap(a, b) for a, b in combinations(grouped, 2)],
        pairs=[pair for name in named for pair in report.pairs(name)],
        cost=report.cost(),
    )


def measured(outcomes: Iterable[Outcome], examination: Floats | Sequence[float]) -> Fairness:
    """The same, of outcomes; `examination` of at least as many positions as a slate has."""
    slates, known = Slates(), np.asarray(examination, np.float64)
    for outcome in outcomes:
        slates.take(outcome, known)
    return measure(slates)
