"""How sure differences between arms are: users are drawn again and again, all arms' events with them.

A paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993) by user, because a user's events are
alike: drawing single events would take them for independent and give intervals too narrow. Knows nothing of arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from models.baselines import Float64
from models.config import Int64


@dataclass(frozen=True, slots=True)
class Difference:
    """Arm `a` less arm `b`, and `a` over `b`, each with its 95% interval; a ratio is None where `b` has nothing."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


def differences(
    values: Mapping[str, Float64], users: Int64, *, replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> list[Difference]:
    """Compare every arm with every other.

    Args:
        values: by arm, [n] gains of the same n events.
        users: [n] whose event each is.
        replicates: how often users are drawn, as many as there are, with replacement.
        level: of the intervals, by percentiles.

    Raises:
        ValueError: there is no event, or arms have different numbers of them.
    """
    if len(users) == 0 or any(len(one) != len(users) for one in values.values()):
        raise ValueError(f"bootstrap of {len(users)} events and {[len(one) for one in values.values()]} values")
    _, code = np.unique(users, return_inverse=True)
    events: Float64 = np.bincount(code).astype(np.float64)
    sums: Float64 = np.stack([np.bincount(code, weights=one) for one in values.values()], axis=1).astype(np.float64)
    drawn = _drawn(sums, events, replicates, np.random.default_rng(seed))
    measured = sums.sum(axis=0) / events.sum()
    tails = [100 * (1 - level) / 2, 100 * (1 + level) / 2]
    return [
        _compare(names, measured[list(at)], drawn[:, list(at)], tails)
        for names, at in zip(permutations(values, 2), permutations(range(len(values)), 2), strict=True)
    ]


def _drawn(sums: Float64, events: Float64, replicates: int, random: np.random.Generator) -> Float64:
    """[replicates, arms] means over events of users drawn anew."""
    found = np.empty((replicates, sums.shape[1]))
    for at in range(replicates):
        times = np.bincount(random.integers(0, len(events), len(events)), minlength=len(events))
        found[at] = times @ sums / (times @ events)
    return found


def _compare(names: tuple[str, str], measured: Float64, drawn: Float64, tails: list[float]) -> Difference:
    low, high = np.percentile(drawn[:, 0] - drawn[:, 1], tails).tolist()
    difference = float(measured[0] - measured[1])
    if not (measured[1] > 0 and (drawn[:, 1] > 0).all()):
        return Difference(*names, difference, low, high, None, None, None)
    ratio_low, ratio_high = np.percentile(drawn[:, 0] / drawn[:, 1], tails).tolist()
    return Difference(*names, difference, low, high, float(measured[0] / measured[1]), ratio_low, ratio_high)
