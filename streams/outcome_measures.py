"""What outcomes tell of slates and of their propensities, as they come: hits, and how far inverse weights spread.

Kept for the process that learns them, from its start; older outcomes weigh less and less. Knows nothing of the
estimators that learn from the same outcomes.
"""

from __future__ import annotations

from collections import Counter

from streams.contracts import Outcome

HALF_LIFE_SLATES = 700.0
"""Slates after which one weighs half: the last 1,000 or so make the numbers."""

WEIGHT_CAP = 100.0
"""Inverse inclusion weights are clipped there when a clipped share is asked for."""

LEAST_INCLUSION = 1e-9


class OutcomeMeasures:
    """Told of every outcome learned.

    Attributes:
        counts: outcomes by (origin, reason, whether an item of it was interacted with).
        unusable: outcomes that were skipped.
        alarms: drift alarms by what changed.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str, bool]] = Counter()
        self.unusable = 0
        self.alarms: Counter[str] = Counter()
        self._fade = 0.5 ** (1 / HALF_LIFE_SLATES)
        self._slates = self._hits = 0.0
        self._shown = self._weight = self._squares = self._clipped = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        hit = any(reward > 0 for reward in outcome.rewards)
        self.counts[outcome.origin, outcome.reason, hit] += 1
        if outcome.origin != "driftline":
            return
        self._slates = self._slates * self._fade + 1
        self._hits = self._hits * self._fade + hit
        self._weigh(outcome.inclusion or [])

    def _weigh(self, inclusion: list[float]) -> None:
        weights = [1 / max(chance, LEAST_INCLUSION) for chance in inclusion]
        fade = self._fade
        self._shown = self._shown * fade + len(weights)
        self._weight = self._weight * fade + sum(weights)
        self._squares = self._squares * fade + sum(weight * weight for weight in weights)
        self._clipped = self._clipped * fade + sum(weight - WEIGHT_CAP for weight in weights if weight > WEIGHT_CAP)

    @property
    def hit_ratio(self) -> float | None:
        """Share of driftline's own slates with a hit; None before the first."""
        return self._hits / self._slates if self._slates else None

    @property
    def effective_sample_ratio(self) -> float | None:
        """(Σw)² / (n Σw²) of the shown items' inverse inclusion probabilities: 1 where all are alike."""
        return self._weight**2 / (self._shown * self._squares) if self._shown else None

    @property
    def clipped_ratio(self) -> float | None:
        """Share of the weights' sum that clipping at `WEIGHT_CAP` takes away."""
        return self._clipped / self._weight if self._weight else None
