"""The controller of fairness: exposure of item groups, within each user group, in proportion to what they merit there.

After FairCo (Morik, Singh, Hong, Joachims, "Controlling fairness and bias in dynamic learning-to-rank", SIGIR 2020):
the logit of an item gets a term proportional to how far its group is behind. Per user group a and item group g

    share   s = E(a,g) / Σ_h E(a,h)              of the exposure in memory
    target  t = N(a,g) M(a,g) / Σ_h N(a,h) M(a,h)  candidates times merit, that is equal exposure for equal merit
    term    b = clip(strength · trust · gain · (t − s), −bound, bound)

FairCo's error, the cumulated E/M of the best-off group less one's own, differs from (t − s) by a factor per group and
a constant, which no draw sees; here it is in units of share, so that it stays finite where merit is small.

Three things keep it in bounds. The gain is lowered to half of (slates in memory) / (slates between an estimate and the
outcome that answers it): a loop with such a delay swings above two to three times that. `trust` is small while little
is known. `strength` falls from 1 to 0 while the reward given up, measured on slates left alone by chance, rises from
four fifths of `max_cost` to all of it. Knows groups by name; knows nothing of Kafka, of items, or of how slates are
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from policy.group_rates import MOST_GROUPS, Floats, GroupRates
from policy.randomness import event_keys, item_uniforms

HOLDOUT = 0x0FA1
"""What an event's number is for (`policy.randomness.event_keys`): whether its slate is left alone to compare."""

FULL_STRENGTH_UP_TO = 0.8
"""Of the most that may be given up."""

TRUST_SLATES = 200.0
"""After so many slates of a user group its term has half of its size."""

PRIOR_ITEMS = 50.0
"""A merit counts its own rate half after so many shown items, and half the mean of the user group."""

MAX_NAME = 64
_NUMBERS = {"gain": (0.0, 1000.0), "bound": (0.0, 20.0), "max_cost": (0.0, 1.0), "holdout": (0.0, 0.5)}


@dataclass(frozen=True)
class FairnessConfig:
    """Whose exposure is looked after, and how strongly.

    Attributes:
        items: by item group, its categories. An item belongs to the first group that has one of its categories.
        users: user groups; others' slates are left as they are. Empty: all users together are one group.
        target: `merit`, exposure in proportion to debiased rates; `parity`, to the number of candidates.
        gain: logits for a share that is 1 too small.
        bound: the largest term, in logits.
        max_cost: the largest part of the clicks that may be given up.
        holdout: the part of slates that are left alone, to measure it.
    """

    items: Mapping[str, Sequence[str]]
    users: Sequence[str] = ()
    target: Literal["merit", "parity"] = "merit"
    gain: float = 20.0
    bound: float = 1.0
    max_cost: float = 0.05
    holdout: float = 0.05
    group_of: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_names("users", self.users, 0)
        _check_names("items", list(self.items), 2)
        group_of: dict[str, int] = {}
        for at, (group, categories) in enumerate(self.items.items()):
            if isinstance(categories, str) or not categories or not all(isinstance(one, str) for one in categories):
                raise ValueError(f"items.{group} is {categories!r}, expected a list of categories")
            for category in categories:
                if group_of.setdefault(category, at) != at:
                    raise ValueError(f"items.{group} has the category {category!r}, which another group has already")
        object.__setattr__(self, "group_of", group_of)
        if self.target not in ("merit", "parity"):
            raise ValueError(f"target is {self.target!r}, expected merit or parity")
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}, expected a number from {least:g} to {most:g}")

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> FairnessConfig:
        """The configuration of a table as TOML gives it. Raises ValueError naming field, value and expectation."""
        known = ("items", "users", "target", *_NUMBERS)
        for name in table:
            if name not in known:
                raise ValueError(f"{name} is not known here, expected {', '.join(known)}")
        if not isinstance(table.get("items"), Mapping):
            raise ValueError(f"items is {table.get('items')!r}, expected a table: group = [categories]")
        if not isinstance(table.get("users", []), list):
            raise ValueError(f"users is {table['users']!r}, expected a list of groups")
        return cls(**table)

    def item_group(self, categories: Sequence[str]) -> int:
        """Index of the group of an item, -1 for one in none: the first group, as listed, that has a category of its."""
        return min((at for one in categories if (at := self.group_of.get(one, -1)) >= 0), default=-1)

    def user_group(self, group: str | None) -> int:
        """Index of the row in `Steering` of users of this group, -1 for those who are left alone."""
        if not self.users:
            return 0
        return self.users.index(group) if group in self.users else -1


@dataclass(frozen=True, slots=True)
class Steering:
    """What the controller does and why: arrays float64 [user groups, item groups] in the order of the configuration.

    Attributes:
        term: what the logits of the pair get.
        share, target: of the exposure; NaN where there was none.
        merit: clicks an examined item, debiased, drawn towards the user group's mean while little is known.
        trust: float64 [user groups].
        gain: logits for a share, as far as the delay allows.
        strength: as far as the cost allows.
        cost: part of the clicks given up, and its standard error; None: not measured yet.
    """

    term: Floats
    share: Floats
    target: Floats
    merit: Floats
    trust: Floats
    gain: float
    strength: float
    cost: tuple[float, float] | None


def shares(config: FairnessConfig, steering: Steering) -> dict[str, float]:
    """Each item group's share of a user group's exposure, by `user group/item group`; without what is not known."""
    names = [f"{user}/{item}" for user in (config.users or ("all",)) for item in config.items]
    known = zip(names, steering.share.ravel().tolist(), strict=True)
    return {name: share for name, share in known if not math.isnan(share)}


def gap(steering: Steering) -> float | None:
    """The largest distance of a share of exposure from its target; None while no pair has both."""
    distance = np.abs(steering.target - steering.share)
    known = distance[~np.isnan(distance)]
    return float(known.max()) if known.size else None


def steer(config: FairnessConfig, rates: GroupRates) -> Steering:
    """Say what to add, from what is known."""
    pairs, slates = _selected(config, rates)
    exposure, weight, squares, worth, candidates = pairs
    share = _shares(exposure)
    merit = _merit(weight, squares, worth)
    target = _shares(candidates * merit if config.target == "merit" else candidates)
    trust = slates / (slates + TRUST_SLATES)
    total = float(rates.slates.sum())
    gain = min(config.gain, total / (2 * rates.age / total)) if rates.age > 0 else config.gain
    cost = measured_cost(rates.arms)
    strength = _strength(config.max_cost, cost)
    error = np.nan_to_num(target - share, nan=0.0)
    term = np.clip(strength * gain * trust[:, None] * error, -config.bound, config.bound)
    return Steering(term, share, target, merit, trust, gain, strength, cost)


def measured_cost(arms: Floats) -> tuple[float, float] | None:
    """1 − clicks a steered slate / clicks a slate left alone, and its standard error (delta method).

    `arms` float64 [2, 5] as in `GroupRates`. None where an arm has fewer than two slates, or no click to compare with.
    """
    if not (arms[:, 0] > 0).all() or (arms[:, 0] ** 2 < 2 * arms[:, 2]).any() or not arms[0, 1] > 0:
        return None
    mean = arms[:, 1] / arms[:, 0]
    variance = (arms[:, 4] - 2 * mean * arms[:, 3] + mean**2 * arms[:, 2]) / arms[:, 0] ** 2
    ratio = mean[1] / mean[0]
    error = math.sqrt(max(0.0, variance[1] + ratio**2 * variance[0])) / mean[0]
    return float(1 - ratio), float(error)


def held_out(holdout: float, seed: int, partition: int, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which events' slates are left alone, bool [B]: a share `holdout` of them, by the events' own numbers."""
    keys = event_keys(seed, partition, offsets, HOLDOUT)
    return item_uniforms(keys, np.zeros((len(offsets), 1), np.uint64))[:, 0] < holdout


def _strength(most: float, cost: tuple[float, float] | None) -> float:
    """1 while what is given up, less its standard error, is well below the most, 0 from there on."""
    if cost is None:
        return 1.0
    shown = cost[0] - cost[1]
    if most == 0:
        return 0.0 if shown > 0 else 1.0
    return min(1.0, max(0.0, (1 - shown / most) / (1 - FULL_STRENGTH_UP_TO)))


def _merit(weight: Floats, squares: Floats, worth: Floats) -> Floats:
    """Self-normalised rate of each pair, drawn towards that of its row by effective sample size."""
    row = np.divide(worth.sum(1), weight.sum(1), out=np.zeros(len(worth)), where=weight.sum(1) > 0)[:, None]
    own = np.divide(worth, weight, out=np.broadcast_to(row, worth.shape).copy(), where=weight > 0)
    size = np.divide(weight**2, squares, out=np.zeros_like(weight), where=squares > 0)
    merit: Floats = (size * own + PRIOR_ITEMS * row) / (size + PRIOR_ITEMS)
    return merit


def _selected(config: FairnessConfig, rates: GroupRates) -> tuple[Floats, Floats]:
    """The sums [5, user groups, item groups] and slates [user groups] in the order of the configuration."""
    columns = [rates.items.index(name) if name in rates.items else -1 for name in config.items]
    pairs = np.concatenate([rates.pairs, np.zeros((*rates.pairs.shape[:2], 1))], axis=2)[:, :, columns]
    if not config.users:
        return pairs.sum(axis=1, keepdims=True), rates.slates.sum(keepdims=True)
    rows = [rates.users.index(name) if name in rates.users else -1 for name in config.users]
    pairs = np.concatenate([pairs, np.zeros((len(pairs), 1, pairs.shape[2]))], axis=1)[:, rows]
    return pairs, np.append(rates.slates, 0.0)[rows]


def _shares(amounts: Floats) -> Floats:
    total = amounts.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(amounts, total, out=np.full_like(amounts, np.nan), where=total > 0)
    return shares


def _check_names(field: str, names: Sequence[str], least: int) -> None:
    if not least <= len(names) <= MOST_GROUPS:
        raise ValueError(f"{field} names {len(names)} groups, expected {least} to {MOST_GROUPS}")
    for name in names:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"{field} has {name!r}, expected a name of 1 to {MAX_NAME} characters")
    if len(set(names)) < len(names):
        raise ValueError(f"{field} names a group twice")
