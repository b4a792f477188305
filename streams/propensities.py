"""Propensities from decision records: what a worker publishes with `policy_marginals`, for who has only the decisions.

Marginals are a function of what a decision logs: logits, temperature, ε, what is pinned and how often neighbours are
exchanged. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy.slate import published_marginals
from streams.contracts import Decision

BATCH = 64
"""Slates worked on at once."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Marginals:
    """Of one slate with C candidate columns and n positions.

    Attributes:
        position: [C, n] P(candidate at position), as published; 0 in empty columns.
        inclusion: [C] P(candidate in the slate).
        chosen: [n] columns, in order of position.
    """

    position: Floats
    inclusion: Floats
    chosen: NDArray[np.int64]

    @property
    def propensity(self) -> Floats:
        """[n] P(each shown item at its position)."""
        return np.asarray(self.position[self.chosen, np.arange(len(self.chosen))])

    @property
    def shown_inclusion(self) -> Floats:
        """[n] P(each shown item in the slate)."""
        return np.asarray(self.inclusion[self.chosen])


def marginals(decisions: Sequence[Decision]) -> list[Marginals]:
    """Exact marginals of each decision's slate, in their order; those of one shape are worked on together."""
    alike: defaultdict[tuple[int, int, float, float], list[int]] = defaultdict(list)
    for at, decision in enumerate(decisions):
        alike[len(decision.candidates), len(decision.chosen), decision.epsilon, decision.swaps].append(at)
    found: dict[int, Marginals] = {}
    for group in alike.values():
        for start in range(0, len(group), BATCH):
            places = group[start : start + BATCH]
            found |= zip(places, _marginals([decisions[at] for at in places]), strict=True)
    return [found[at] for at in range(len(decisions))]


def _marginals(group: Sequence[Decision]) -> list[Marginals]:
    """Of decisions of one shape."""
    logits = np.stack([np.frombuffer(decision.logits_f32, "<f4") for decision in group])
    chosen = np.array([decision.chosen for decision in group], np.int64).reshape(len(group), -1)
    if not chosen.shape[1]:
        return [Marginals(np.zeros((len(row), 0)), np.zeros(len(row)), chosen[0]) for row in logits]
    fixed = np.array([np.isin(np.arange(chosen.shape[1]), decision.pinned) for decision in group])
    temperature = np.array([decision.temperature for decision in group])
    position, inclusion = published_marginals(logits, chosen, fixed, temperature, group[0].epsilon, group[0].swaps)
    return [Marginals(*row) for row in zip(position, inclusion, chosen, strict=True)]
