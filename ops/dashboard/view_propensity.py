"""Propensities: whether logged probabilities come true, how positions are looked at, clicks as counted and corrected.

Plain values, no markup.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from ops.dashboard.facts import Facts
from ops.dashboard.looked_at import Curve, curve_of
from ops.health.saying import Figure, count, decimal, ratio, share

POSITIONS = 10
"""Drawn of the learned curve where no outcome has told how long slates are."""


def _known(value: float) -> str | None:
    return None if np.isnan(value) else decimal(value)


class Propensity:
    """The page's contents now."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._read: tuple[bytes, int, Curve | None] | None = None

    def propensity(self) -> dict[str, Any]:
        seen, processes, age = self.facts.seen, self.facts.processes, self.facts.age("learner")
        curve = self._curve()
        outcome_age = None if seen.outcome_at is None else seen.clock() - seen.outcome_at
        none = "no learner says it"
        figures = [
            self.facts.figure(
                "Calibration error",
                decimal(processes.worst("learner", "propensity_calibration_error_ratio")),
                age,
                none,
                "learner",
            ),
            self.facts.figure(
                "Effective sample, of the learner's weights",
                share(processes.worst("learner", "propensity_effective_sample_ratio")),
                age,
                none,
                "learner",
            ),
            self.facts.figure(
                "Weight lost to clipping",
                share(processes.worst("learner", "propensity_clipped_weight_ratio")),
                age,
                none,
                "learner",
            ),
            Figure(
                "Outcomes seen here",
                count(seen.outcomes) if seen.outcomes else None,
                outcome_age,
                "none came since the dashboard was started",
            ),
        ]
        bins = [
            {
                "range": f"{10 * at}–{10 * at + 10} %",
                "candidates": f"{one.candidates:,.0f}",
                "said": one.probability / one.candidates,
                "said_text": share(one.probability / one.candidates),
                "was": one.shown / one.candidates,
                "was_text": share(one.shown / one.candidates),
            }
            for at, one in enumerate(seen.bins)
            if one.candidates > 0
        ]
        return {
            "figures": figures,
            "bins": bins,
            "positions": self._positions(curve),
            "looked_at": self._looked_at(curve),
            "rates": self._naive_and_corrected(),
            "weights": self._weights(),
            "charts": {
                "reliability": [
                    [one["said"] for one in bins],
                    [one["was"] for one in bins],
                    [one["said"] for one in bins],
                ],
                "positions": [
                    [float(at + 1) for at in range(len(seen.positions))],
                    [100 * one.clicked / one.shown if one.shown else None for one in seen.positions],
                ],
                "examination": self._curve_chart(curve),
                "calibration": self.facts.history(("calibration", 1), ("ess", 1)),
            },
        }

    def _curve(self) -> Curve | None:
        """How positions are looked at; read anew where another snapshot came."""
        snapshot, positions = self.facts.seen.estimates, len(self.facts.seen.positions) or POSITIONS
        if snapshot is None:
            return None
        if self._read is None or self._read[0] is not snapshot or self._read[1] != positions:
            try:
                self._read = snapshot, positions, curve_of(snapshot, positions)
            except (msgspec.MsgspecError, ValueError, UnicodeDecodeError):
                self._read = snapshot, positions, None
        return self._read[2]

    def _looked_at(self, curve: Curve | None) -> dict[str, Any]:
        """Where the curve comes from, and how old it is; or why there is none."""
        if curve is None:
            none = "no snapshot of estimates is among the last records of models"
            return {"why": none if self.facts.seen.estimates is None else "the last snapshot of estimates says none"}
        return {
            "why": "",
            "age": self.facts.seen.clock() - curve.created / 1000,
            "outcomes": count(curve.outcomes),
            "contradicted": [at + 1 for at in curve.contradicted],
        }

    def _positions(self, curve: Curve | None) -> list[dict[str, Any]]:
        """Clicks as counted, and as they would be if each position were looked at like the first."""
        rows = []
        seen = self.facts.seen.positions
        for at in range(max(len(seen), 0 if curve is None else len(curve.learned))):
            one = seen[at] if at < len(seen) else None
            learned = None if curve is None or at >= len(curve.learned) else float(curve.learned[at])
            rate = None if one is None else ratio(one.clicked, one.shown)
            rows.append(
                {
                    "position": at + 1,
                    "shown": None if one is None else count(one.shown),
                    "clicked": None if one is None else count(one.clicked),
                    "rate": share(rate),
                    "learned": decimal(learned),
                    "clicks": None if curve is None or learned is None else count(float(curve.clicks[at])),
                    "exchanged": None if curve is None or learned is None else _known(float(curve.exchanged[at])),
                    "corrected": None if rate is None or learned is None else share(rate / learned),
                }
            )
        return rows

    @staticmethod
    def _curve_chart(curve: Curve | None) -> list[list[float | None]]:
        if curve is None:
            return [[], [], [], []]
        places = [float(at + 1) for at in range(len(curve.learned))]
        exchanged = [None if np.isnan(value) else value for value in curve.exchanged.tolist()]
        return [list(places), curve.learned.tolist(), exchanged, [1 / place**0.5 for place in places]]

    def _naive_and_corrected(self) -> list[dict[str, Any]]:
        ranked = sorted(
            ((item, known) for item, known in self.facts.seen.most_shown.items() if known.weights > 0),
            key=lambda one: -one[1].shown,
        )
        return [
            {
                "item": item,
                "title": known.title,
                "shown": known.shown,
                "naive": share(ratio(known.clicked, known.shown)),
                "corrected": share(ratio(known.weighted_clicks, known.weights)),
            }
            for item, known in ranked
        ]

    def _weights(self) -> list[dict[str, Any]]:
        weights = sorted(self.facts.seen.weights)
        if not weights:
            return []
        return [
            {"name": name, "value": f"{weights[min(len(weights) - 1, int(part * len(weights)))]:,.2f}"}
            for name, part in (("median", 0.5), ("95th of 100", 0.95), ("largest", 1.0))
        ]
