"""Recommenders to compare with that have no model: random, most clicked, and the oracle that knows what users want.

Knows the world only through what `Environment` shows; only the oracle looks at relevance.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from evaluation.simulation.clicks import Bools, Floats
from evaluation.simulation.world import Environment, Ints


class Recommender(Protocol):
    """Makes slates and hears what came of them, tick by tick."""

    def choose(self, users: Ints) -> Ints:
        """[n, k] items, all different within a row, for distinct users [n], ascending."""

    def hear(self, users: Ints, slates: Ints, clicks: Bools) -> None:
        """What the users [n] clicked of their slates [n, k]."""

    def ranked(self, users: Ints) -> Ints | None:
        """[n, k] what it thought best for the users of the last `choose`, exploration aside; None: it has no say."""

    def facts(self) -> dict[str, float]:
        """What else is to be told of it, by name."""


class _Reference:
    """Orders everything there is by scores."""

    def __init__(self, world: Environment, seed: int) -> None:
        self._world, self._random = world, np.random.default_rng((seed, 2))
        self._clicks = np.bincount(world.history()[1], minlength=len(world.topic)).astype(np.float64)

    def choose(self, users: Ints) -> Ints:
        return _best(self._scores(users, self._world.known), self._world.k)

    def hear(self, users: Ints, slates: Ints, clicks: Bools) -> None:
        self._clicks *= 0.99
        np.add.at(self._clicks, slates[clicks], 1.0)

    def ranked(self, users: Ints) -> Ints | None:
        return None

    def facts(self) -> dict[str, float]:
        return {}

    def _scores(self, users: Ints, known: int) -> Floats:
        raise NotImplementedError


class Random(_Reference):
    """Every item alike."""

    def _scores(self, users: Ints, known: int) -> Floats:
        return self._random.random((len(users), known))


class Popular(_Reference):
    """The most clicked items of late, for everybody."""

    def _scores(self, users: Ints, known: int) -> Floats:
        return np.broadcast_to(self._clicks[:known] + 1e-6 * self._random.random(known), (len(users), known))


class Oracle(_Reference):
    """The k items that the user wants most now: best for this moment, which need not be best in the long run."""

    def _scores(self, users: Ints, known: int) -> Floats:
        return self._world.relevance(users)


def _best(scores: Floats, k: int) -> Ints:
    found: Ints = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return found
