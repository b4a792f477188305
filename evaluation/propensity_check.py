"""Whether the probabilities that were published are probabilities, and those of the logits that were logged.

For each slate: the terms add up to the base, and base + correction + adjustments are the logits, bit by bit; over all
candidates, the probabilities of standing at a position sum to one at every position; and the published propensities
and inclusions are what the logged logits give. The second costs about 2 ms a slate, so it is done for as many slates as
time allows. Knows nothing of Kafka.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from policy.slate import published_marginals, total

_BATCH = 64

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Published:
    """What a slate says of itself, one number a position."""

    propensity: NDArray[np.float64]
    inclusion: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a slate was drawn from: `logits` [C], the columns `chosen`, in order of position, which positions were
    `pinned`, and in which share of slates neighbours are exchanged, `swaps`."""

    slate: str
    logits: Floats32
    chosen: NDArray[np.int64]
    temperature: float
    epsilon: float
    pinned: tuple[int, ...] = ()
    swaps: float = 0.0


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        decisions: how many were seen; of all of them it was checked that terms, base, correction, adjustments and
            logits add up.
        checked: of how many the probabilities were computed.
        sum_error: largest |Σ over candidates of π(candidate at position) − 1|; None before the first.
        published_error: largest |published − computed| propensity or inclusion; None when none was published.
        wrong_logits: slates whose logits are not base + correction + adjustments, or whose base is not the sum of its
            terms, exactly.
    """

    decisions: int
    checked: int
    sum_error: float | None
    published_error: float | None
    wrong_logits: list[str]


class PropensityCheck:
    """Collects decisions and what was published of them, and checks them when there is time."""

    def __init__(self) -> None:
        self._unchecked: list[Drawn] = []
        self._published: dict[str, Published] = {}
        self._decisions = self._checked = 0
        self._sum_error: float | None = None
        self._published_error: float | None = None
        self._wrong_logits: list[str] = []
        self._random = random.Random(0)  # noqa: S311 (a sample, not a secret)

    def decision(
        self,
        drawn: Drawn,
        base: Floats32,
        correction: Floats32,
        terms: Mapping[str, Floats32] = MappingProxyType({}),
        adjustments: Mapping[str, Floats32] = MappingProxyType({}),
    ) -> None:
        """Take in a decision; `base`, `correction`, `terms` and `adjustments` [C] as logged. An older one names no
        terms."""
        self._decisions += 1
        added = not terms or np.array_equal(_added(terms), base)
        if not (added and np.array_equal(total(base, correction, adjustments), drawn.logits)):
            self._wrong_logits.append(drawn.slate)
        if len(drawn.chosen):
            self._unchecked.append(drawn)

    def published(self, slate: str, published: Published) -> None:
        """Take in what was published with a slate, before or after its decision."""
        self._published[slate] = published

    def run(self, seconds: float) -> None:
        """Check decisions that are not checked yet, in random order, until none is left or the time is up."""
        until = time.monotonic() + seconds
        while self._unchecked and time.monotonic() < until:
            batch = [self._any() for _ in range(min(_BATCH, len(self._unchecked)))]
            alike: defaultdict[tuple[int, int, float, float], list[Drawn]] = defaultdict(list)
            for drawn in batch:
                alike[len(drawn.logits), len(drawn.chosen), drawn.epsilon, drawn.swaps].append(drawn)
            for group in alike.values():
                self._check(group)

    @property
    def result(self) -> Checked:
        """What was found so far."""
        return Checked(self._decisions, self._checked, self._sum_error, self._published_error, list(self._wrong_logits))

    def _any(self) -> Drawn:
        at = self._random.randrange(len(self._unchecked))
        self._unchecked[at], self._unchecked[-1] = self._unchecked[-1], self._unchecked[at]
        return self._unchecked.pop()

    def _check(self, group: list[Drawn]) -> None:
        """Compute the probabilities of decisions of one shape."""
        logits = np.stack([drawn.logits for drawn in group])
        temperature = np.array([drawn.temperature for drawn in group])
        chosen = np.stack([drawn.chosen for drawn in group])
        fixed = np.array([np.isin(np.arange(len(drawn.chosen)), drawn.pinned) for drawn in group])
        position, inclusion = published_marginals(logits, chosen, fixed, temperature, group[0].epsilon, group[0].swaps)
        k = chosen.shape[1]
        self._checked += len(group)
        self._sum_error = _largest(self._sum_error, position.sum(axis=1) - 1)
        for at, drawn in enumerate(group):
            said = self._published.pop(drawn.slate, None)
            if said is not None:
                computed = np.stack([position[at, drawn.chosen, np.arange(k)], inclusion[at, drawn.chosen]])
                error = np.stack([said.propensity, said.inclusion]) - computed
                self._published_error = _largest(self._published_error, error)


def _added(terms: Mapping[str, Floats32]) -> Floats32:
    """The terms one by one, in the order of their names."""
    first, *others = sorted(terms)
    return reduce(np.add, (terms[name] for name in others), terms[first])


def _largest(known: float | None, errors: NDArray[np.float64]) -> float:
    return max(known or 0.0, float(np.abs(errors).max(initial=0.0)))
