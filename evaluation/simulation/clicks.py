"""How a slate becomes clicks: position-based, cascade and trust-bias click models, drawn and in closed form.

Relevance is the probability that a user who has looked at an item wants it. What differs is who looks where, and
whether a place alone earns clicks. Each model draws from one uniform number for each place (examination) and one for
each item (attraction), so that two recommenders that show the same user the same item meet the same luck. Knows nothing
of users, items or recommenders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class ClickModel(Protocol):
    """Relevance [n, k] in order of position to what happens."""

    def expected(self, relevance: Floats) -> Floats:
        """[n, k] P(the item at this position is wanted and clicked)."""

    def draw(self, relevance: Floats, looks: Floats, wants: Floats) -> tuple[Bools, Bools]:
        """Clicks [n, k], and which of them are of wanted items; from uniform numbers [n, k] of places and of items."""


@dataclass(frozen=True, slots=True)
class PositionBased:
    """Places are looked at independently: P(click at k) = η_k · r, η_k = k^−severity (Richardson et al., 2007)."""

    severity: float = 1.0

    def examination(self, k: int) -> Floats:
        """[k] η."""
        eta: Floats = np.arange(1, k + 1, dtype=np.float64) ** -self.severity
        return eta

    def expected(self, relevance: Floats) -> Floats:
        return self.examination(relevance.shape[1]) * relevance

    def draw(self, relevance: Floats, looks: Floats, wants: Floats) -> tuple[Bools, Bools]:
        clicks: Bools = (looks < self.examination(relevance.shape[1])) & (wants < relevance)
        return clicks, clicks


@dataclass(frozen=True, slots=True)
class Cascade:
    """From the top down; on to the next place with probability `after_click` after a click, else `after_none`.

    The dependent click model (Guo et al., 2009) with equal continuation at all places. How far somebody looks depends
    on what is above, which no position-based model can say.
    """

    after_click: float = 0.5
    after_none: float = 0.85

    def expected(self, relevance: Floats) -> Floats:
        onward = self.after_none - (self.after_none - self.after_click) * relevance
        looked = np.cumprod(np.concatenate([np.ones((len(relevance), 1)), onward[:, :-1]], axis=1), axis=1)
        found: Floats = looked * relevance
        return found

    def draw(self, relevance: Floats, looks: Floats, wants: Floats) -> tuple[Bools, Bools]:
        wanted = wants < relevance
        # The number of a place decides whether one goes on from it to the next.
        onward = looks < np.where(wanted, self.after_click, self.after_none)
        looked = np.cumprod(np.concatenate([np.ones((len(wanted), 1)), onward[:, :-1]], axis=1), axis=1) > 0
        clicks: Bools = looked & wanted
        return clicks, clicks


@dataclass(frozen=True, slots=True)
class Trust:
    """Position-based, and what stands high is clicked for standing there (Agarwal et al., 2019).

    P(click at k) = η_k · (r + (1 − r) · ε_k), ε_k = `trust` · k^−`fading`. Clicks out of trust are no reward.
    """

    severity: float = 1.0
    trust: float = 0.3
    fading: float = 1.0

    def _mistaken(self, k: int) -> Floats:
        mistaken: Floats = self.trust * np.arange(1, k + 1, dtype=np.float64) ** -self.fading
        return mistaken

    def expected(self, relevance: Floats) -> Floats:
        return PositionBased(self.severity).expected(relevance)

    def draw(self, relevance: Floats, looks: Floats, wants: Floats) -> tuple[Bools, Bools]:
        k = relevance.shape[1]
        looked = looks < PositionBased(self.severity).examination(k)
        clicks: Bools = looked & (wants < relevance + (1 - relevance) * self._mistaken(k))
        return clicks, clicks & (wants < relevance)


MODELS: dict[str, ClickModel] = {"position": PositionBased(), "cascade": Cascade(), "trust": Trust()}
"""By name, as `driftline simulate --clicks` takes them."""
