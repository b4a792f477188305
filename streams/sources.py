"""Where candidates come from, and what they score: the nearest to the user's vector, and what goes with his last items.

Two sources make one list, nobody twice: first those that counts of the release name, up to the policy's number of
neighbours, then the nearest of the index, as many as there is room for. A score is a sum of terms, and each term is
kept. Without counts in the release there is one source and one term. A candidate's terms do not depend on which source
found it, in which column it stands, or who else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.blend import Terms
from models.cooccurrence import ServingCounts
from models.sections import MODEL
from policy.injection import inject
from policy.slate import Noise, PolicyConfig
from streams.recent import Recent
from streams.world import World

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]
Pairs = tuple[Ints, Ints]
"""Flat pairs: user int64 [n], slot int64 [n]."""
Scored = tuple[Ints, Floats32]
"""Slots [B, C], -1 where there is none, and the model's scores of them [B, C]."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Of B users, in `width` columns: those from counts, those from the index, empty ones (-1), then the injected.

    `model` are the model's scores, float32 [B, width], -inf in empty columns; `injection` [B] is each row's injection
    probability, `counted` [B] how many of the first columns came from counts, `injected` how many of the last columns
    are for what is drawn from the catalogue.
    """

    slots: Ints
    model: Floats32
    injection: NDArray[np.float64]
    counted: Ints
    injected: int


def find(
    world: World, policy: PolicyConfig, vectors: Floats32, recent: Recent, excluded: Pairs, random: Noise
) -> Candidates:
    """Return the candidates of users with these vectors [B, d+1]; `excluded` are never among them."""
    slots, scores = world.index.search_excluding(vectors, policy.candidates, excluded)
    counted = np.zeros(len(vectors), np.int64)
    if world.counts is not None:
        most = min(policy.neighbours, policy.candidates)
        found = _neighbours(world, world.counts, most, recent, excluded)
        counted = (found >= 0).sum(axis=1)
        slots, scores = _joined((found, world.index.scores(vectors, found)), (slots, scores), len(world.catalogue))
    injected, probability = inject(slots, world.pool, excluded, random.injection)
    slots = np.concatenate([slots, injected], axis=1)
    scores = np.concatenate([scores, world.index.scores(vectors, injected)], axis=1)
    return Candidates(slots, np.where(slots >= 0, scores, np.float32(-np.inf)), probability, counted, policy.injected)


def including(world: World, candidates: Candidates, vectors: Floats32, wanted: Ints, excluded: Pairs) -> Candidates:
    """The candidates, with those of `wanted` [B, k] (-1: none) that are not among them in place of the last retrieved.

    Of users with these vectors; what is `excluded` or not in the index is not put there.
    """
    size = len(world.catalogue)
    barred = np.isin(np.arange(len(wanted))[:, None] * size + wanted, excluded[0] * size + excluded[1])
    missing = (wanted >= 0) & ~barred & ~_among(wanted, candidates.slots, size)
    if not missing.any():
        return candidates
    scores = world.index.scores(vectors, np.where(missing, wanted, -1))
    slots, model = candidates.slots.copy(), candidates.model.copy()
    free = ~_among(slots, wanted, size)  # what is wanted and there makes room for nothing
    free[:, slots.shape[1] - candidates.injected :] = False
    for row in np.flatnonzero((scores > -np.inf).any(axis=1)).tolist():
        columns = np.flatnonzero(free[row])[::-1]
        new = np.flatnonzero(scores[row] > -np.inf)[: len(columns)]
        slots[row, columns[: len(new)]], model[row, columns[: len(new)]] = wanted[row, new], scores[row, new]
    return replace(candidates, slots=slots, model=model)


def terms(world: World, model: Floats32, recent: Recent, slots: Ints) -> Terms:
    """Return the terms of candidates `slots` [B, C], no slot twice in a row, float32 [B, C] by name.

    `model` [B, C] are the model's scores of them. Where there is no candidate the model's term is -inf, others 0.
    """
    model = np.where(slots >= 0, model, np.float32(-np.inf))
    if world.counts is None or world.blend is None:
        return {MODEL: model}
    rows, last = world.rows.of(slots), world.rows.of(recent.slots[:, : world.counts.length])
    columns = {name: known[rows] for name, known in world.counts.columns.items()}
    contexts = world.blend.contexts(recent.events, recent.gap_s, last)
    return world.blend.terms(model, world.counts.sums(last, rows), columns, contexts)


def _neighbours(world: World, counts: ServingCounts, most: int, recent: Recent, excluded: Pairs) -> Ints:
    """Return the slots [B, most] that counts name; -1 beyond what there is."""
    users, slots = excluded
    rows = world.rows.of(slots)
    barred = (users[rows >= 0], rows[rows >= 0])
    found = counts.candidates(world.rows.of(recent.slots[:, : counts.length]), most, barred, world.rows.available)
    return world.rows.slots_of(found)


def _joined(found: Scored, nearest: Scored, size: int) -> Scored:
    """Put what was found first, then the nearest that are not among it, in as many columns as the nearest have."""
    left = np.where(_among(nearest[0], found[0], size), -1, nearest[0])
    slots, scores = np.concatenate([found[0], left], axis=1), np.concatenate([found[1], nearest[1]], axis=1)
    order = np.argsort(slots < 0, axis=1, kind="stable")[:, : nearest[0].shape[1]]
    return np.take_along_axis(slots, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _among(slots: Ints, found: Ints, size: int) -> NDArray[np.bool_]:
    """Whether each of `slots` [B, C] is among the row's `found` [B, K]; both below `size`."""
    if not found.size:
        return np.zeros(slots.shape, np.bool_)
    first = np.arange(len(slots))[:, None] * (size + 1) + 1  # place 0 of each row is that of no slot
    known = np.sort((first + found).ravel())
    wanted = first + slots
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    among: NDArray[np.bool_] = known[places] == wanted
    return among
