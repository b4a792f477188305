"""How far each user's interest has moved of late: by which angle a day, and which topics gained and lost.

Interest is the mean of what he took last, the newest counting most: the vector of his items, and the shares of their
categories. It is set against what it was a day before, as his state tells it, so that whoever has the state finds the
same, a worker that has just taken over and a replay too. Knows worlds and last items; nothing of policies or messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.drift import DAY_MS, drift
from streams.recent import Recent
from streams.world import World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEIGHTS: Floats = np.power(0.9, np.arange(20))
"""What a user's last events count in his interest, the newest first."""
TOPICS = 4
"""So many topics are named, those that changed most."""


@dataclass(frozen=True, slots=True)
class Moves:
    """Of B users.

    Attributes:
        degrees: float64 [B] degrees a day that interest has turned, 0 to 180; NaN where there is nothing to set against
            each other.
        topics: by topic, the change of its share a day; the largest changes first, none where `degrees` is NaN.
    """

    degrees: Floats
    topics: Sequence[dict[str, float]]


def moves(world: World, recent: Recent) -> Moves:
    """Set the newest events against those up to the newest that is a day older than the last.

    Who has none so old, in what is remembered of him here, is set against the older half of it; what is younger than a
    day counts as a day, so that a first visit is no leap.
    """
    times = recent.times
    count = (times >= 0).sum(axis=1)
    old = (times >= 0) & (times <= times[:, :1] - DAY_MS)
    since = np.where(old.any(axis=1), old.argmax(axis=1), (count + 1) // 2)
    place = since[:, None] + np.arange(len(WEIGHTS))
    here = place < count[:, None]
    slots = np.take_along_axis(recent.slots, np.minimum(place, times.shape[1] - 1), axis=1)
    now, then = _newest(recent.slots), np.where(here, slots, -1)
    rows = np.arange(len(times))
    elapsed = np.maximum(times[:, 0] - times[rows, np.minimum(since, times.shape[1] - 1)], DAY_MS)
    degrees = _degrees(world, now, then, elapsed)
    return Moves(degrees, _topics(world, now, then, np.where(np.isnan(degrees), 0, DAY_MS / elapsed)))


def _newest(slots: Ints) -> Ints:
    """[B, 20] of [B, L]: cut, or padded with -1."""
    more = max(0, len(WEIGHTS) - slots.shape[1])
    return np.pad(slots[:, : len(WEIGHTS)], ((0, 0), (0, more)), constant_values=-1)


def _degrees(world: World, now: Ints, then: Ints, elapsed: Ints) -> Floats:
    if not len(world.inputs):
        return np.full(len(now), np.nan)
    after, before = (_mean(world, slots) for slots in (now, then))
    known = after.any(axis=1) & before.any(axis=1)
    turned = drift(before, after, elapsed, np.empty((0, after.shape[1]), np.float32)).degrees
    return np.where(known, turned, np.nan)


def _mean(world: World, slots: Ints) -> NDArray[np.float32]:
    """[B, d] in the direction of the mean; zeros where no item is known."""
    known = slots >= 0
    weights = (known * WEIGHTS).astype(np.float32)
    mean: NDArray[np.float32] = np.einsum("bl,bld->bd", weights, world.inputs[np.where(known, slots, 0)])
    return mean


def _topics(world: World, now: Ints, then: Ints, per_day: Floats) -> list[dict[str, float]]:
    """Changes by topic, those of users with a `per_day` of 0 left out."""
    found: list[dict[str, float]] = [{} for _ in now]
    many = len(world.categories)
    if not many:
        return found
    (gained, more), (lost, less) = (_shares(world, slots, many) for slots in (now, then))
    changes = np.bincount(np.concatenate([gained, lost]), np.concatenate([more, -less]), len(now) * many)
    keys = np.flatnonzero(changes)
    row, topic = np.divmod(keys, many)
    change = changes[keys] * per_day[row]
    order = np.lexsort((topic, -np.abs(change), row))
    rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    chosen = order[(rank < TOPICS) & (np.abs(change[order]) > 1e-4)]
    names = world.categories.names
    for user, number, by in zip(row[chosen].tolist(), topic[chosen].tolist(), change[chosen].tolist(), strict=True):
        found[user][names[number]] = round(by, 4)
    return found


def _shares(world: World, slots: Ints, many: int) -> tuple[Ints, Floats]:
    """Parts of users' topics, flat: user · many + topic, and what share it is; an item's topics share it equally."""
    topics = world.categories.of(slots)
    of_item = (topics >= 0).sum(axis=2)
    weights = WEIGHTS * (of_item > 0)
    weights = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12) / np.maximum(of_item, 1)
    user, place, at = np.nonzero(topics >= 0)
    return user * many + topics[user, place, at], weights[user, place]
