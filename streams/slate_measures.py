"""What slates are like: how alike their items are, how much of the catalogue they reach, what the index missed.

A sample is enough for that, so it costs next to nothing beside making the slates. Kept over a change of release.
Knows nothing of users, and of who reads the numbers.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from index.recall import Recall, RecallMonitor
from streams.measures import Histogram
from streams.world import World

REACH_SECONDS = 3600.0
"""How long an item counts as reached."""

DIVERSITY = tuple(step / 20 for step in range(1, 20))
DRIFT = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180)
"""Bounds for drift, degrees a day."""
DIVERSITY_EVERY_S = 0.05
"""One slate at most in this time is looked at for its diversity."""

RECALL_EVERY_S = 30.0
RECALL_QUERIES = 32
RECALL_SCORES = 8_000_000
"""Scores that one measurement of recall may compute, about 50 ms: in a large catalogue it takes fewer queries."""

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


class SlateMeasures:
    """Told of every batch's slates, in the thread that makes them; read by any.

    Attributes:
        slates: by arm, `policy` or `uniform`.
        coalesced: events answered by a later event's slate.
        drift: degrees a day that users' interests have turned.
        recall, recall_at: the last measurement, and when (monotonic).
    """

    def __init__(self, k: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.slates: Counter[str] = Counter()
        self.coalesced = 0
        self.diversity = Histogram(DIVERSITY)
        self.drift = Histogram(DRIFT)
        self.recall: Recall | None = None
        self.recall_at = 0.0
        self._clock = clock
        self._monitor = RecallMonitor(k, RECALL_QUERIES)
        self._recall_due = clock() + 1.0
        self._diversity_due = 0.0
        self._world: World | None = None
        self._shown = np.empty(0)  # when each slot was in a slate last (monotonic)

    def add(self, world: World, vectors: Floats32, chosen: Ints, uniform: NDArray[np.bool_], covered: int) -> None:
        """Slates of one batch: user vectors [B, d+1], slots [B, k] (-1: none), whether chance chose [B], and how many
        events they answer."""
        now = self._clock()
        uniformly = int(np.count_nonzero(uniform))
        self.slates["uniform"] += uniformly
        self.slates["policy"] += len(chosen) - uniformly
        self.coalesced += covered - len(chosen)
        self._reach(world, chosen, now)
        if now >= self._diversity_due:
            self._diversity_due = now + DIVERSITY_EVERY_S
            self._look_at(world, chosen[0])
        self._monitor.observe(vectors[:1])
        if now >= self._recall_due:
            self._measure_recall(world)

    def moved(self, degrees: NDArray[np.float64]) -> None:
        """How far the interests of a batch's users have turned, degrees a day [B], NaN where that is not known."""
        for angle in degrees[np.isfinite(degrees)].tolist():
            self.drift.add(angle)

    def reach(self) -> float | None:
        """Share of the items that can be recommended which were in a slate lately; None where there are none."""
        world = self._world
        if world is None:
            return None
        alive = world.catalogue.alive_slots()
        if not len(alive):
            return None
        shown = self._shown
        known = alive[alive < len(shown)]
        return float(np.count_nonzero(shown[known] > self._clock() - REACH_SECONDS) / len(alive))

    def _reach(self, world: World, chosen: Ints, now: float) -> None:
        size = len(world.catalogue)
        if world is not self._world:
            self._shown, self._world = self._carried(world), world
            self._monitor.capacity = max(1, min(RECALL_QUERIES, RECALL_SCORES // max(1, len(world.index))))
        elif size > len(self._shown):
            self._shown = np.concatenate([self._shown, np.full(size + 64 - len(self._shown), -np.inf)])
        self._shown[chosen[chosen >= 0]] = now

    def _carried(self, world: World) -> NDArray[np.float64]:
        """What was shown when, by the slots of another world."""
        shown = np.full(len(world.catalogue), -np.inf)
        if self._world is not None:
            hashes = self._world.catalogue.hashes[: len(self._shown)]
            slots = world.catalogue.slots_of_hashes(hashes)
            shown[slots[slots >= 0]] = self._shown[: len(hashes)][slots >= 0]
        return shown

    def _look_at(self, world: World, chosen: Sequence[int] | Ints) -> None:
        vectors = world.inputs[[slot for slot in chosen if slot >= 0]]
        if len(vectors) < 2:
            return
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.maximum(lengths, 1e-12)
        count = len(unit)
        mean_cosine = (float(np.square(unit.sum(axis=0)).sum()) - count) / (count * (count - 1))
        self.diversity.add((1 - mean_cosine) / 2)

    def _measure_recall(self, world: World) -> None:
        found = self._monitor.measure(world.index)
        now = self._clock()
        self._recall_due = now + RECALL_EVERY_S
        if found is not None:
            self.recall, self.recall_at = found, now
