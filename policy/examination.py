"""Examination: how likely a position is looked at, beside the first: the position-based model, learned from clicks.

P(click at k) = η_k · r̂ (Richardson et al. 2007). Given r̂ from the reward model, the likelihood of η_k is greatest where
Σ (c − η_k·r̂) / (1 − η_k·r̂) = 0, that is at Σ w·c / Σ w·r̂ with w = 1 / (1 − η_k·r̂). Both sums are kept, with
exponential forgetting, and w is taken at the current estimate: an online EM in the sense of Cappé and Moulines (2009)
for the same likelihood, whose fixed point it shares. (The textbook's M-step averages P(looked at | click or none); it
moves by the share of the information that is not missing: slower the rarer clicks are, and not at all from η = 1.)

η is relative: an r̂ that is too large by a factor looks like positions that are looked at less. So all are divided by
the first position's: η_1 = 1, and such a factor goes out at once instead of having to be unlearned by r̂.

η depends on context (who looks, on what): a context has sums of its own, drawn towards those of all while it has
few clicks. Knows nothing of Kafka or of slates as messages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SMALLEST, LARGEST = 0.01, 2.0
"""Bounds of η: a position may be looked at more than the first, within reason."""

PRIOR_CLICKS = 3.0
"""What the curve assumed at first, 1/√k, counts at each position, in clicks; it is forgotten like all else."""
SHRINKAGE = 30.0
"""Clicks that the curve of all contexts counts in that of one."""
MAX_CONTEXTS = 32


class Examination:
    """η by position and context. Not safe for concurrent mutation.

    `half_life`: slates, of a context, after which one counts half. `positions`: most positions of a slate.
    """

    def __init__(self, half_life: float = 5000.0, positions: int = 100) -> None:
        if not half_life > 0:
            raise ValueError(f"half_life is {half_life}, expected a positive number of slates")
        if positions < 1:
            raise ValueError(f"positions is {positions}, expected at least 1")
        self.half_life, self.positions = half_life, positions
        self._keep = 2.0 ** (-1 / half_life)
        self._contexts: dict[str, int] = {"": 0}
        prior = 1 / np.sqrt(np.arange(1, positions + 1))
        self._clicks = (PRIOR_CLICKS * prior)[None, :]  # Σ w·c of each context [contexts, positions]
        self._expected = np.full((1, positions), PRIOR_CLICKS)  # Σ w·r̂

    def predict(self, context: str = "") -> Floats:
        """η of every position, float64 [positions], that of the first 1; "" stands for all contexts together."""
        overall = self._clicks[0] / self._expected[0]
        row = self._contexts.get(context, 0)
        if row:
            prior = SHRINKAGE / np.maximum(overall, SMALLEST)
            overall = (self._clicks[row] + prior * overall) / (self._expected[row] + prior)
        return np.asarray(np.clip(overall / overall[0], SMALLEST, LARGEST))

    def clicks(self, context: str = "") -> Floats:
        """How many clicks the estimate of each position rests on, float64 [positions]; older ones count less."""
        return np.array(self._clicks[self._contexts.get(context, 0)])

    def learn(self, context: str, clicks: NDArray[np.bool_], reward: Floats) -> None:
        """One slate, from its first position on: what was clicked [n] and r̂ of each item [n].

        Raises ValueError for more positions than there are, or an r̂ outside 0 to 1.
        """
        if len(clicks) > self.positions:
            raise ValueError(f"a slate has {len(clicks)} positions, expected at most {self.positions}")
        if not ((reward >= 0) & (reward <= 1)).all():
            raise ValueError("reward holds a number outside 0 to 1")
        for name in dict.fromkeys(("", self._known(context))):
            row, n = self._contexts[name], len(clicks)
            weight = 1 / (1 - np.minimum(self.predict(name)[:n] * reward, 0.95))
            self._clicks[row, :n] = self._clicks[row, :n] * self._keep + weight * clicks
            self._expected[row, :n] = self._expected[row, :n] * self._keep + weight * reward

    def quicken(self, factor: float) -> None:
        """Let what comes next count `factor` times as much; the η of all contexts together does not change by it.

        Raises ValueError for a factor below 1.
        """
        if not factor >= 1:
            raise ValueError(f"factor is {factor}, expected at least 1")
        self._clicks /= factor
        self._expected /= factor

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: numbers, `contexts`, and arrays `clicks`, `expected` [contexts, positions]."""
        arrays = {"clicks": self._clicks.copy(), "expected": self._expected.copy()}
        return {"half_life": self.half_life, "contexts": list(self._contexts), **arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Examination:
        """The estimator that gave `state`; arrays may come as nested lists. Raises ValueError when they disagree."""
        clicks, expected = (np.array(state[name], np.float64) for name in ("clicks", "expected"))
        contexts = list(state["contexts"])
        if clicks.ndim != 2 or clicks.shape != expected.shape or len(clicks) != len(contexts) or contexts[0] != "":
            shapes = f"{clicks.shape}, {expected.shape} for {len(contexts)} contexts"
            raise ValueError(f"clicks, expected have shapes {shapes}, expected one shape [contexts, positions]")
        restored = cls(float(state["half_life"]), clicks.shape[1])
        restored._contexts = {name: row for row, name in enumerate(contexts)}
        restored._clicks, restored._expected = clicks, expected
        return restored

    def _known(self, context: str) -> str:
        """The context, made known if there is room; "" otherwise."""
        if context not in self._contexts:
            if len(self._contexts) >= MAX_CONTEXTS:
                return ""
            self._contexts[context] = len(self._contexts)
            self._clicks = np.vstack([self._clicks, np.zeros(self.positions)])
            self._expected = np.vstack([self._expected, np.zeros(self.positions)])
        return context
