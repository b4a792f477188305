"""May a release be served, and was it right to? Two releases, judged on the same events before either has learned them.

A sequential paired comparison: gains of both on each event, the mean difference and its standard error. Knows nothing
of how a gain is computed, of training or of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Verdict = Literal["open", "passed", "worse"]


@dataclass(frozen=True, slots=True)
class GateConfig:
    """When a comparison is decided.

    Attributes:
        events: a candidate is judged on so many events.
        z: it is worse when its mean difference lies below 0 by more than z standard errors ...
        tolerance: ... or by more than this share of the other's mean gain, whatever the errors.

    Raises:
        ValueError: a field is outside its range.
    """

    events: int = 512
    z: float = 1.64
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if self.events < 2:
            raise ValueError(f"GateConfig.events is {self.events}, expected at least 2")
        for name in ("z", "tolerance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"GateConfig.{name} is {getattr(self, name)}, expected at least 0")


class Comparison:
    """Gains of a challenger beside those of a champion, event by event."""

    def __init__(self, config: GateConfig) -> None:
        self._config = config
        self.events = 0
        self._sums = np.zeros(3)  # champion's gains, differences, their squares

    def add(self, challenger: Float64, champion: Float64) -> None:
        """Gains of both on the same n events. Raises ValueError when they differ in number or aren't finite."""
        if challenger.shape != champion.shape:
            raise ValueError(f"gains of {len(challenger)} and {len(champion)} events, expected the same events")
        difference = challenger - champion
        if not np.isfinite(difference).all():
            raise ValueError("a gain is NaN or infinite, expected finite numbers")
        self.events += len(difference)
        self._sums += [champion.sum(), difference.sum(), np.square(difference).sum()]

    @property
    def difference(self) -> float:
        """Mean of challenger − champion."""
        return float(self._sums[1]) / max(1, self.events)

    @property
    def error(self) -> float:
        """Its standard error, taking events as independent."""
        if self.events < 2:
            return math.inf
        variance = (self._sums[2] - self._sums[1] ** 2 / self.events) / (self.events - 1)
        return math.sqrt(max(0.0, float(variance)) / self.events)

    @property
    def champion(self) -> float:
        """Mean gain of the champion."""
        return float(self._sums[0]) / max(1, self.events)

    @property
    def verdict(self) -> Verdict:
        """``open`` until there are enough events."""
        if self.events < self._config.events:
            return "open"
        allowed = min(self._config.z * self.error, self._config.tolerance * self.champion)
        return "worse" if self.difference < -allowed else "passed"

    def state(self) -> dict[str, Any]:
        """JSON values from which ``restored`` makes the same comparison."""
        return {"events": self.events, "sums": self._sums.tolist()}

    @classmethod
    def restored(cls, config: GateConfig, state: dict[str, Any]) -> Comparison:
        """The comparison that gave ``state``."""
        comparison = cls(config)
        comparison.events, comparison._sums = state["events"], np.array(state["sums"])
        return comparison
