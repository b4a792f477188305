"""One recommender in one world, from the first tick to the last, and what came of it.

Rewards are expected ones, given the slates that were shown: what users then drew is luck, which would only blur the
comparison. Knows nothing of which recommender it is.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from evaluation.simulation.clicks import Floats
from evaluation.simulation.references import Recommender
from evaluation.simulation.world import Environment, Ints

WINDOWS = 20
"""Points of a curve."""


@dataclass(slots=True)
class Found:
    """What a run came to; JSON values only.

    Attributes:
        slates, clicks: shown in all, and clicked.
        reward: summed over all slates, and `mean_reward` per slate.
        best: the same of the best slates for the moments that this run came to.
        ranker, late_ranker: reward of what the model thought best, without exploration, over that of the best slates;
            in all and over the last fifth of the ticks. Null: nothing ranks.
        late_mean_reward, late_best: per slate, over the last fifth.
        gini: of exposures over items, each divided by the ticks that the item was there.
        curve_reward, curve_best, curve_slates: by window of ticks.
        group_reward, group_best, group_slates: by group of users.
        cold_share: share of exposures that went to items which came later.
        reached: share of items shown at all.
        seconds: wall time.
        facts: what else the recommender tells.
    """

    slates: int
    clicks: int
    reward: float
    mean_reward: float
    best: float
    ranker: float | None
    late_ranker: float | None
    late_mean_reward: float
    late_best: float
    gini: float
    curve_reward: list[float]
    curve_best: list[float]
    curve_slates: list[int]
    group_reward: list[float]
    group_best: list[float]
    group_slates: list[int]
    cold_share: float
    reached: float
    seconds: float
    facts: dict[str, float] = field(default_factory=dict)

    def said(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class _Ledger:
    """Sums by tick and by group."""

    def __init__(self, world: Environment) -> None:
        self.world = world
        # columns: slates, clicks, reward, best, ranked reward
        self.ticks = np.zeros((world.ticks, 5))
        self.groups = np.zeros((int(world.group.max()) + 1, 3))
        self.exposures = np.zeros(len(world.topic))
        self.present = np.zeros(len(world.topic))

    def add(self, tick: int, users: Ints, rows: Floats, slates: Ints) -> None:
        self.ticks[tick] = rows.sum(axis=0)
        np.add.at(self.groups, self.world.group[users], rows[:, [0, 2, 3]])
        np.add.at(self.exposures, slates, 1.0)


def run(world: Environment, recommender: Recommender, first_items: int) -> Found:
    """Play all ticks. `first_items`: how many items were there from the start."""
    started, ledger, ranks = time.perf_counter(), _Ledger(world), False
    for tick in range(world.ticks):
        users = world.begin()
        ledger.present[: world.known] += 1
        if not len(users):
            continue
        slates = recommender.choose(users)
        thought = recommender.ranked(users)
        rows = np.zeros((len(users), 5))
        if thought is not None:
            ranks = True
            rows[:, 4] = world.value(users, thought)
        response = world.show(users, slates)
        recommender.hear(users, slates, response.clicks)
        rows[:, :4] = np.stack(
            [np.ones(len(users)), response.clicks.sum(axis=1), response.reward, response.best], axis=1
        )
        ledger.add(tick, users, rows, slates)
    return _found(ledger, ranks, first_items, time.perf_counter() - started, recommender.facts())


def gini(values: Floats) -> float:
    """Of n numbers of at least 0: 0 when all are equal, towards 1 when one has everything; 0 when there is nothing."""
    ordered, n = np.sort(values), len(values)
    total = ordered.sum()
    if total <= 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def _found(ledger: _Ledger, ranks: bool, first_items: int, seconds: float, facts: dict[str, float]) -> Found:
    ticks, late = ledger.ticks, ledger.ticks[-max(1, len(ledger.ticks) // 5) :]
    slates, clicks, reward, best, ranked = ticks.sum(axis=0).tolist()
    windows = np.array_split(ticks, min(WINDOWS, len(ticks)))
    curve = np.array([window.sum(axis=0) for window in windows])
    exposures, there = ledger.exposures, ledger.present > 0
    return Found(
        slates=int(slates),
        clicks=int(clicks),
        reward=reward,
        mean_reward=_over(reward, slates),
        best=best,
        ranker=_over(ranked, best) if ranks else None,
        late_ranker=_over(late[:, 4].sum(), late[:, 3].sum()) if ranks else None,
        late_mean_reward=_over(late[:, 2].sum(), late[:, 0].sum()),
        late_best=_over(late[:, 3].sum(), late[:, 0].sum()),
        gini=gini(exposures[there] / ledger.present[there]),
        curve_reward=curve[:, 2].tolist(),
        curve_best=curve[:, 3].tolist(),
        curve_slates=curve[:, 0].astype(int).tolist(),
        group_reward=ledger.groups[:, 1].tolist(),
        group_best=ledger.groups[:, 2].tolist(),
        group_slates=ledger.groups[:, 0].astype(int).tolist(),
        cold_share=_over(exposures[first_items:].sum(), exposures.sum()),
        reached=float((exposures[there] > 0).mean()),
        seconds=round(seconds, 2),
        facts=facts,
    )


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
