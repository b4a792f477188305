"""What groups of users were shown of groups of items, and how it was liked: sums that are learned slate by slate.

Of each pair (user group, item group): exposure, which is examination summed over the positions it had, and merit, which
is the rate of clicks with two biases taken out, that of position (a click counts 1 / η of its position) and that of
selection (an item counts 1 / π, its probability of being in the slate). Of the slates that a controller steered and of
those that it left alone for comparison: clicks a slate. Old slates are forgotten at a half-life counted in slates.

Deterministic, and exact across `state` and `from_state`. Sums of two logs cannot be added: each forgets by its own
slates, not by those of both, so one learner learns them all. Knows groups by name; knows nothing of Kafka, of items
or of what is done about the rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HALF_LIFE = 10_000.0
MOST_GROUPS = 32
MAX_WEIGHT = 20.0
"""1 / π counts at most this much: a little bias against an unbounded variance."""

MIN_EXAMINATION = 0.05
PAIR_SUMS = ("exposure", "weight", "squares", "worth", "candidates")
"""Σ η, Σ 1/π, Σ 1/π², Σ click / (π η), all over shown items, and the number of candidates."""

ARM_SUMS = ("slates", "clicks", "slates2", "clicks2", "squares2")
"""Σ ω, Σ ω c, Σ ω², Σ ω² c, Σ ω² c² over slates with c clicks; ω is what is left of a slate after forgetting."""


@dataclass(frozen=True, slots=True)
class GroupedSlate:
    """A slate of k items that a controller of fairness had to do with.

    Attributes:
        user: group of the user.
        items: the group of each item, None for one in none.
        candidates: how many items of each group it was chosen from.
        clicked: float64 [k], 1 where the user did something with the item, else 0.
        examination: float64 [k], P(the user looks at the position).
        inclusion: float64 [k], P(the item is in the slate); NaN where not known, or where it was no chance.
        steered: True, the controller's term took part; False, the slate was left alone to compare.
        uniform: it was drawn uniformly from the candidates.
        age: slates learned since the estimate that it was made with.
    """

    user: str
    items: Sequence[str | None]
    candidates: Mapping[str, int]
    clicked: Floats
    examination: Floats
    inclusion: Floats
    steered: bool
    uniform: bool = False
    age: float = 0.0


class GroupRates:
    """The sums. `users` and `items` name rows and columns, at most `MOST_GROUPS` each, in order of appearance.

    Attributes:
        pairs: float64 [5, users, items], the sums `PAIR_SUMS`.
        slates: float64 [users].
        arms: float64 [2, 5], the sums `ARM_SUMS`, of slates left alone and of steered ones, uniform ones left out.
        age: sum of the slates' ages.
    """

    def __init__(self, half_life: float = HALF_LIFE) -> None:
        if not half_life > 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of slates")
        self.half_life = half_life
        self._keep = 0.5 ** (1 / half_life)
        self.users: list[str] = []
        self.items: list[str] = []
        self.pairs: Floats = np.zeros((len(PAIR_SUMS), 0, 0))
        self.slates: Floats = np.zeros(0)
        self.arms: Floats = np.zeros((2, len(ARM_SUMS)))
        self.age = 0.0

    def learn(self, slate: GroupedSlate) -> None:
        """Learn one slate. Groups beyond the most that are kept count for nothing."""
        user = self._user(slate.user)
        columns = {name: at for name in slate.candidates if (at := self._item(name)) >= 0}
        if user < 0 or not columns:
            return
        self.forget(self._keep)
        self.slates[user] += 1
        self.age += slate.age
        for name, at in columns.items():
            self.pairs[4, user, at] += slate.candidates[name]
        known = ~np.isnan(slate.inclusion)
        weight = np.where(known, 1 / np.clip(np.where(known, slate.inclusion, 1.0), 1 / MAX_WEIGHT, 1.0), 0.0)
        worth = weight * slate.clicked / np.maximum(slate.examination, MIN_EXAMINATION)
        for position, group in enumerate(slate.items):
            if group in columns:
                one = weight[position]
                self.pairs[:4, user, columns[group]] += slate.examination[position], one, one * one, worth[position]
        if not slate.uniform:
            clicks = float(slate.clicked.sum())
            self.arms[int(slate.steered)] += 1, clicks, 1, clicks, clicks * clicks

    def forget(self, keep: float) -> None:
        """Let what is known count `keep` times as much as it does (0 to 1) against what comes."""
        self.pairs *= keep
        self.slates *= keep
        self.arms *= (keep, keep, keep * keep, keep * keep, keep * keep)
        self.age *= keep

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: names, numbers, and the arrays."""
        return {
            "half_life": self.half_life,
            "users": list(self.users),
            "items": list(self.items),
            "pairs": self.pairs.copy(),
            "slates": self.slates.copy(),
            "arms": self.arms.copy(),
            "age": self.age,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> GroupRates:
        """The rates that gave `state`; arrays may be flat. Raises ValueError when they do not fit the names."""
        found = cls(float(state["half_life"]))
        found.users, found.items, found.age = list(state["users"]), list(state["items"]), float(state["age"])
        for name, values, most in (("users", found.users, MOST_GROUPS), ("items", found.items, MOST_GROUPS)):
            if len(set(values)) != len(values) or len(values) > most:
                raise ValueError(f"fairness.{name} holds {len(values)} names, expected at most {most} different ones")
        found.pairs = _shaped("pairs", state["pairs"], (len(PAIR_SUMS), len(found.users), len(found.items)))
        found.slates = _shaped("slates", state["slates"], (len(found.users),))
        found.arms = _shaped("arms", state["arms"], (2, len(ARM_SUMS)))
        return found

    def _user(self, name: str) -> int:
        if name not in self.users:
            if len(self.users) == MOST_GROUPS:
                return -1
            self.users.append(name)
            self.pairs = np.pad(self.pairs, ((0, 0), (0, 1), (0, 0)))
            self.slates = np.pad(self.slates, (0, 1))
        return self.users.index(name)

    def _item(self, name: str) -> int:
        if name not in self.items:
            if len(self.items) == MOST_GROUPS:
                return -1
            self.items.append(name)
            self.pairs = np.pad(self.pairs, ((0, 0), (0, 0), (0, 1)))
        return self.items.index(name)


def _shaped(name: str, values: Any, shape: tuple[int, ...]) -> Floats:
    found = np.array(values, np.float64)
    if found.size != np.prod(shape) or not np.isfinite(found).all():
        raise ValueError(f"fairness.{name} holds {found.size} numbers, expected {shape} finite ones")
    return found.reshape(shape)
