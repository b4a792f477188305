"""The learned blend: from what is known of a candidate to its score, term by term.

A feature is a number for each candidate: the model's score; of each table of counts log(1 + sum / floor), and whether
the sum is 0; what is known of each item by itself. Weights depend on the user's context, the ranges that a few
quantities of his history fall into. A term is weight x feature; the two features of a table make one term. The score is
the sum of the terms in the order of their names, in float32.

What a context may depend on is known right after the user's last event: the time of the next one is not.
Knows nothing of tables, catalogues or policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from models import sections
from models.config import Bool, Float32, Int64
from models.sections import MODEL, QUANTITIES, Arrays

MISSING = ".missing"


class Blend:
    """Weights of a release, float32 [contexts, F], F ``features`` by name."""

    def __init__(self, arrays: Arrays) -> None:
        self.features: list[str] = sections.features(arrays)
        self.edges: dict[str, Float32] = {name: arrays[f"blend.edges.{name}"] for name in sections.quantities(arrays)}
        self.weights: Float32 = arrays["blend.weights"]
        self.floors = sections.floors(arrays)

    def contexts(self, events: Int64, gap_s: Float32, recent: Int64) -> Int64:
        """The row of the weights for each of B users, int64 [B]; all as after the user's last event.

        Args:
            events: [B] how many events the user has had.
            gap_s: [B] seconds between his last two, -1 for fewer.
            recent: [B, L] rows of his last items, newest first, -1 where unknown or none.
        """
        return contexts(self.edges, events, gap_s, recent)

    def terms(self, model: Float32, sums: Mapping[str, Float32], columns: Mapping[str, Float32], at: Int64) -> Terms:
        """Terms of C candidates of each of B users, by name.

        Args:
            model: [B, C] the model's scores; -inf where there is no candidate.
            sums: [B, C] by table.
            columns: [B, C] what is known of each candidate by itself, by name.
            at: [B] contexts.

        Returns:
            float32 [B, C] by name, in the order of the names; without a candidate the model's is -inf, others 0.
        """
        present = model > -np.inf
        weight = dict(zip(self.features, self.weights[at].T[:, :, None], strict=True))
        terms = {MODEL: np.where(present, weight[MODEL] * np.where(present, model, 0), np.float32(-np.inf))}
        for name, known in columns.items():
            terms[name] = np.where(present, weight[name] * known, 0)
        for name, summed in sums.items():
            risen, missing = table_features(summed, self.floors[name])
            terms[name] = np.where(present, weight[name] * risen + weight[name + MISSING] * missing, 0)
        return {name: np.asarray(terms[name], np.float32) for name in sorted(terms)}


Terms = dict[str, Float32]


def table_features(sums: Float32, floor: np.float32) -> tuple[Float32, Bool]:
    """Of sums in a table: log(1 + sum / floor), or the sum as it is where the floor is 0; and whether the sum is 0."""
    if not floor:
        return sums, sums == 0
    return np.log(sums / floor + np.float32(1)), sums == 0


def total(terms: Mapping[str, Float32]) -> Float32:
    """The score: the terms added in the order of their names, in float32, exactly as anybody can again."""
    ordered = [terms[name] for name in sorted(terms)]
    score = ordered[0].copy()
    for term in ordered[1:]:
        score += term
    return score


def contexts(edges: Mapping[str, Float32], events: Int64, gap_s: Float32, recent: Int64) -> Int64:
    """As ``Blend.contexts``, for these edges by quantity; the last name of all runs fastest.

    Quantities: ``events`` and ``gap_s`` as given; ``repeat``, how many events before the newest its item was met, as
    far as the last items tell, 0 if it was not.
    """
    found = np.zeros(len(events), np.int64)
    for name in sorted(edges):
        if name == "events":
            value: Float32 = events.astype(np.float32)
        elif name == "gap_s":
            value = gap_s
        elif name == "repeat":
            value = events_since(recent).astype(np.float32)
        else:
            raise ValueError(f"edges of {name!r}, expected one of {list(QUANTITIES)}")
        found = found * (len(edges[name]) + 1) + np.searchsorted(edges[name], value, side="right")
    return found


def events_since(recent: Int64) -> Int64:
    """How many events before the newest of the last items [B, L] its item was met before; int64 [B], 0: not in them."""
    # A column that is never met, so that there is one to look at.
    again = np.pad((recent[:, 1:] == recent[:, :1]) & (recent[:, :1] >= 0), ((0, 0), (0, 1)))
    found: Int64 = np.where(again.any(axis=1), again.argmax(axis=1) + 1, 0)
    return found


def context_count(edges: Mapping[str, Float32]) -> int:
    """How many contexts these edges make."""
    return math.prod(len(one) + 1 for one in edges.values())
