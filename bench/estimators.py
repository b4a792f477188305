"""What the online estimators recover of a known truth, how long it takes them, and what they cost an outcome.

    python -m bench.estimators                 # minutes; the tables of docs/propensities.md
    python -m bench.estimators --json found.json --seeds 3

Simulated clicks (bench/clicks.py); CPU time of one core, as a ratio to the cheapest of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.clicks import SEGMENTS, Slates, World
from policy.drift import Alarm, DriftWatch
from policy.examination import Examination
from policy.reward import RewardModel
from policy.swap_check import SwapCheck

BLOCK = 500
FLAT = np.arange(1, 11.0) ** -0.4
"""The curve that the steep one, 1/k, changes into."""


@dataclass
class Clicks:
    """The estimators of clicks, together as the learner has them."""

    examination: Examination = field(default_factory=Examination)
    reward: RewardModel = field(default_factory=RewardModel)
    check: SwapCheck = field(default_factory=SwapCheck)
    drift: DriftWatch | None = None
    quicken: float = 8.0
    alarms: list[tuple[int, Alarm]] = field(default_factory=list)
    seen: int = 0

    def learn(self, slates: Slates) -> None:
        """Learn slate after slate."""
        names = [[f"i{item}" for item in row] for row in slates.items.tolist()]
        for at, segment in enumerate(slates.segment.tolist()):
            self._learn(SEGMENTS[segment], names[at], slates.clicks[at], slates, at)

    def _learn(self, segment: str, items: list[str], clicks: np.ndarray, slates: Slates, at: int) -> None:
        self.seen += 1
        features = self.reward.features(segment, items)
        reward, examination = self.reward.predict(features), self.examination.predict(segment)[: len(items)]
        if self.drift is not None:
            chance = examination * reward
            residual = (clicks - chance) / np.sqrt(chance * (1 - chance))
            signals = {f"position {k}": float(one) for k, one in enumerate(residual)}
            found = self.drift.update(signals | {f"segment {segment}": float(residual.sum() / len(items) ** 0.5)})
            self.alarms += [(self.seen, alarm) for alarm in found]
            if found:
                self.examination.quicken(self.quicken)
        swapped = tuple(slates.swapped[at].tolist())
        self.check.learn(clicks, swapped=swapped if swapped[0] >= 0 else None, uniform=bool(slates.uniform[at]))
        self.examination.learn(segment, clicks, reward)
        self.reward.learn(features, clicks, self.examination.predict(segment)[: len(items)])


def recovery(seed: int, *, slates: int = 20_000, watched: bool = True, level: float = -1.0) -> dict[str, Any]:
    """Error of η on the way: at first, and after η changed from 1/k to the flat curve, at half of the way."""
    world, clicks = World(seed, level=level), Clicks(drift=DriftWatch() if watched else None)
    errors = []
    for block in range(2 * slates // BLOCK):
        if block == slates // BLOCK:
            world.examination = FLAT
        clicks.learn(world.show(BLOCK))
        errors.append(float(np.abs(clicks.examination.predict()[:10] - world.examination).max()))
    half = slates // BLOCK
    return {
        "seed": seed,
        "settled": _settled(errors[:half]),
        "error": errors[half - 1],
        "settled_after_drift": _settled(errors[half:]),
        "error_after_drift": errors[-1],
        "alarms": [(at, alarm.signal) for at, alarm in clicks.alarms],
        "errors": [round(error, 4) for error in errors],
    }


def _settled(errors: list[float], bound: float = 0.03) -> int | None:
    """Slates after which the error is within the bound and stays there; None: it is not at the end."""
    outside = [at for at, error in enumerate(errors) if error > bound]
    last = outside[-1] + 1 if outside else 0
    return None if last == len(errors) else last * BLOCK


if __name__ == "__main__":
    for watched in (True, False):
        started = time.process_time()
        found = recovery(0, watched=watched)
        print({k: v for k, v in found.items() if k != "errors"}, found["errors"][::4], time.process_time() - started)
