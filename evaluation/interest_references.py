"""What a forecast of interest has to beat: that nothing changes, and that everything goes on as it went. NumPy.

Topics. With c_j the topic shares of the item of a user's j-th newest event (j from 0) and g everybody's shares:

- no change: (Σ_j decay^j · c_j + prior · g) / (Σ_j decay^j · |c_j| + prior);
- trend line: of the last ``events`` events, a least-squares line through their shares over time, with a ridge that is
  measured in horizons (slope = Σ (t − t̄)(c − c̄) / (Σ (t − t̄)² + n · ridge²), t in horizons), read at the later time,
  cut off at 0, made to sum to 1, and taken for n events beside a prior of g.

Vectors: the direction u now, and u + step · (u − u_before), with u_before the state the user was in one horizon earlier
(his first one, where he was not there yet).

Decay, priors, events, ridge and step are the best on the warm-up, for each horizon; so is everything else here that has
a number. Knows nothing of models or streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from models.baselines import Float64
from models.config import Float32, Int64

DECAYS = (0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
PRIORS = (3.0, 10.0, 30.0, 100.0, 300.0)
EVENTS = (20, 50, 100)
RIDGES = (0.0, 0.1, 0.3, 1.0, 3.0)
STEPS = (0.25, 0.5, 1.0)

FLOOR = 1e-3
"""Part of every forecast of topics that is spread evenly, so that what was thought impossible costs a finite amount."""


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What was known of a user when he was asked about: his last events, oldest first.

    Attributes:
        shares: [n, t] topics of each event's item; zeros for an item without any.
        times_ms: [n].
        everybody: [t] everybody's shares at the time.
    """

    shares: Float32
    times_ms: Int64
    everybody: Float64


def no_change(past: Past, decay: float, prior: float) -> Float64:
    """[t] recent shares."""
    weight = decay ** np.arange(len(past.shares) - 1, -1, -1.0)
    counted = weight @ past.shares
    shares: Float64 = (counted + prior * past.everybody) / (counted.sum() + prior)
    return shares


def trend_line(past: Past, ahead_ms: int, ridge: float, events: int, prior: float) -> Float64:
    """[t] where the line leads to."""
    shares, times = past.shares[-events:], past.times_ms[-events:]
    at = (times - past.times_ms[-1]) / ahead_ms
    middle, mean = at.mean(), shares.mean(axis=0)
    spread = ((at - middle) ** 2).sum() + len(at) * ridge**2
    slope = (at - middle) @ (shares - mean) / max(spread, 1e-9)
    line = np.maximum(mean + slope * (1 - middle), 0)
    line = line / max(line.sum(), 1e-9)
    out: Float64 = (len(at) * line + prior * past.everybody) / (len(at) * line.sum() + prior)
    return out


def likelihood(forecast: Float64 | Float32, came: Float32) -> float:
    """Mean log-likelihood of the topics that came, [t] shares, under a forecast [t]."""
    spread = (1 - FLOOR) * forecast + FLOOR / len(forecast)
    return float(came @ np.log(spread))


def tuned(
    pasts: list[Past], came: list[Float32], ahead_ms: int
) -> tuple[tuple[float, float], tuple[float, int, float]]:
    """The best (decay, prior) of `no_change` and (ridge, events, prior) of `trend_line` over cases of the warm-up."""
    return (
        _best(product(DECAYS, PRIORS), lambda p: _mean(no_change(past, *p) for past in pasts)(came)),
        _best(product(RIDGES, EVENTS, PRIORS), lambda p: _mean(trend_line(past, ahead_ms, *p) for past in pasts)(came)),
    )


def _mean(forecasts: Iterable[Float64]) -> Callable[[list[Float32]], float]:
    return lambda came: sum(likelihood(one, what) for one, what in zip(forecasts, came, strict=True))


def _best(settings: Iterable[Any], score: Callable[[Any], float]) -> Any:
    return max(settings, key=score)
