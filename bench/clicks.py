"""A small world of clicks with a known truth: items of known worth, users of segments, positions looked at unequally.

Slates are drawn as the policy draws them, by Gumbel top-k with a uniform arm and exchanged positions; a click at
position k has probability η_k · r(segment, item). What is true can be changed at any time. Knows nothing of estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from policy.slate import Choice, PolicyConfig, redecide
from streams.contracts import Outcome

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SEGMENTS = ("0", "1-4", "5-19", "20-99", "100+")


@dataclass(frozen=True)
class Slates:
    """B slates of K positions.

    Attributes:
        items, clicks: [B, K].
        segment: [B] index into SEGMENTS.
        uniform: [B] whether the slate is of the uniform arm.
        swapped: [B, 2] the positions that were exchanged, -1: none.
    """

    items: Ints
    clicks: Bools
    segment: Ints
    uniform: Bools
    swapped: Ints


@dataclass
class World:
    """The truth, and the policy that shows it.

    Attributes:
        seed: of everything.
        items, positions, candidates: how many there are.
        examination: [K] η; 1/k unless given.
        level: logit of r of an ordinary item.
        taste: standard deviation of r's logit between items; `own`: of what a segment adds of its own.
        knowledge: correlation-like weight of the true logit in the policy's scores, beside noise of .5.
        temperature, epsilon, swaps: of the policy.
    """

    seed: int = 0
    items: int = 300
    positions: int = 10
    candidates: int = 30
    examination: Floats = field(default_factory=lambda: 1 / np.arange(1, 11.0))
    level: float = -1.0
    taste: float = 1.0
    own: float = 0.3
    knowledge: float = 1.0
    temperature: float = 0.35
    epsilon: float = 0.02
    swaps: float = 0.02

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        own = self.random.normal(0, self.own, (len(SEGMENTS), self.items))
        self.logits = self.random.normal(self.level, self.taste, self.items) + own

    def reward(self, segment: Ints, items: Ints) -> Floats:
        """r of items [B, n] to users of segments [B]."""
        return np.asarray(1 / (1 + np.exp(-self.logits[segment[:, None], items])))

    def show(self, count: int) -> Slates:
        """The next slates and their clicks."""
        random, k, rows = self.random, self.positions, np.arange(count)[:, None]
        segment = random.integers(0, len(SEGMENTS), count)
        candidates = np.argsort(random.random((count, self.items)), axis=1)[:, : self.candidates]
        scores = self.knowledge * self.logits[segment[:, None], candidates]
        scores = (scores + random.normal(0, 0.5, scores.shape)) / self.temperature
        uniform = random.random(count) < self.epsilon
        scores[uniform] = 0.0
        order = np.argsort(-(scores + random.gumbel(size=scores.shape)), axis=1)[:, :k]
        items = candidates[rows, order]
        pairs = np.sort(np.argsort(random.random((count, k)), axis=1)[:, :2], axis=1)
        swapped = np.where(random.random((count, 1)) < self.swaps, pairs, -1)
        at = np.flatnonzero(swapped[:, 0] >= 0)
        items[at[:, None], swapped[at]] = items[at[:, None], swapped[at][:, ::-1]]
        clicks = random.random((count, k)) < self.examination * self.reward(segment, items)
        return Slates(items, clicks, segment, uniform, swapped)


POLICY = PolicyConfig(k=10, candidates=50, injected=2, temperature=0.35, epsilon=0.02)


def logged(seed: int, count: int, *, items: int = 200, flip: int | None = None, batch: int = 50) -> Iterator[Outcome]:
    """Outcomes of slates drawn by driftline's own policy, with the probabilities it logs, and clicks at random.

    From slate `flip` on, a multiple of `batch`, what was scored worst is scored best.
    """
    random = np.random.default_rng(seed)
    quality = random.normal(0, 0.5, items)
    for first in range(0, count, batch):
        quality = -quality if first == flip else quality
        columns = np.argsort(random.random((batch, items)), axis=1)[:, : POLICY.width]
        logits = (quality[columns] + random.normal(0, 0.2, columns.shape)).astype(np.float32)
        offsets = first + np.arange(batch)
        choice = redecide(POLICY, logits, columns.astype(np.uint64), 0, offsets)
        clicks = random.random((batch, POLICY.k)) < 0.2
        for row in range(min(batch, count - first)):
            yield _outcome(first + row, columns[row], choice, row, clicks[row])


def _outcome(number: int, columns: Ints, choice: Choice, row: int, clicks: Bools) -> Outcome:
    assert choice.inclusion is not None and choice.unshown is not None and choice.unshown_inclusion is not None
    return Outcome(
        user=f"u{number % 37}",
        slate=f"0-{number}",
        time=1_700_000_000_000 + number * 20_000,
        closed=1_700_000_000_001 + number * 20_000,
        reason="window",
        origin="driftline",
        shown=True,
        items=[f"item{columns[at]}" for at in choice.chosen[row]],
        rewards=clicks.astype(float).tolist(),
        conditional=None,
        propensity=None,
        inclusion=choice.inclusion[row].tolist(),
        unshown=[f"item{columns[at]}" for at in choice.unshown[row]],
        unshown_inclusion=choice.unshown_inclusion[row].tolist(),
        candidates=POLICY.width,
        history=number // 37,
        release="r1",
        estimator=None,
        uniform=bool(choice.uniform_arm[row]),
    )
