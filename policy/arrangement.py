"""How slates are arranged beside the scores: the strength of each intention. Knows nothing of how one is followed."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Arrangement:
    """Strengths, all of them off unless said.

    Attributes:
        unsure: the temperature of a user of whom nothing is known, as a multiple of the policy's; 1: off.
        loss: the most that drawing may cost against the best slate, expected, in logits a position; inf: off.
        new_bonus: the most that is added to an item that was hardly shown yet, in logits; 0: off.
        new_share: share of the positions, expected at most, that this bonus may bring such items to.
        new_slates: in so many slates an item is no longer new.
        diversity: taken off for the likeness (cosine) to something better, in logits; 0: off.
        calibration: how far categories are drawn to their shares in the user's past: 0 not at all, 1 all the way.
        fatigue: taken off each time that an item was shown lately without a reaction, in logits; 0: off.
    """

    unsure: float = 1.0
    loss: float = math.inf
    new_bonus: float = 0.0
    new_share: float = 0.1
    new_slates: int = 20
    diversity: float = 0.0
    calibration: float = 0.0
    fatigue: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "unsure": (1 <= self.unsure < math.inf, "a finite number, at least 1"),
            "loss": (self.loss > 0, "above 0"),
            "new_bonus": (0 <= self.new_bonus < math.inf, "a finite number, at least 0"),
            "new_share": (0 < self.new_share < 1, "between 0 and 1"),
            "new_slates": (self.new_slates >= 1, "at least 1"),
            "diversity": (0 <= self.diversity < math.inf, "a finite number, at least 0"),
            "calibration": (0 <= self.calibration <= 1, "0 to 1"),
            "fatigue": (0 <= self.fatigue < math.inf, "a finite number, at least 0"),
        }
        for name, (valid, expected) in limits.items():
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected}")


OFF = Arrangement()
