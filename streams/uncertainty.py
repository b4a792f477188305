"""What a user's state says of how well he is known: how sure one is of him, and what he has been shown in vain.

Knows worlds and states; knows nothing of policies or messages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streams.recent import Recent
from streams.state import EXPOSURE, UserState
from streams.world import World

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

HISTORY = 20
"""So many of a user's last events tell where he stands."""
NEWEST = 5
"""Of them, those that are set against the others."""
FEW = 10.0
"""After so many events one is still about a third as unsure of a user as at first."""
RIGHT_ANGLE = 90.0
"""Degrees a day by which an interest turns of whose future the past says nothing."""
HALF_LIFE_MINUTES = 24 * 60.0
"""An exposure counts half after this time, and a quarter after twice of it."""


def unsure(world: World, recent: Recent, degrees: Floats) -> Floats:
    """How unsure one is of each user, float64 [B], 0 to 1: by few events, by last events unlike those before, or by an
    interest that moves: `degrees` [B] a day, NaN where that is not known (see streams/drift.py)."""
    few = np.exp(-recent.events / FEW)
    moved = np.minimum(np.nan_to_num(degrees) / RIGHT_ANGLE, 1)
    return np.asarray(1 - (1 - few) * (1 - np.maximum(turn(world, recent), moved)))


def turn(world: World, recent: Recent) -> Floats:
    """How far the newest events have left the ones before, float64 [B], 0 to 1: (1 − cosine of their means) / 2.

    0 for a user with no event that can be set against others.
    """
    slots = recent.slots[:, :HISTORY]
    if not len(world.inputs):
        return np.zeros(len(slots))
    known = slots >= 0
    vectors = world.inputs[np.where(known, slots, 0)] * known[:, :, None]
    newest, before = vectors[:, :NEWEST].sum(axis=1), vectors[:, NEWEST:].sum(axis=1)
    lengths = np.linalg.norm(newest, axis=1) * np.linalg.norm(before, axis=1)
    cosine = np.where(lengths > 0, (newest * before).sum(axis=1) / np.where(lengths > 0, lengths, 1), 1.0)
    return np.asarray((1 - np.clip(cosine, -1, 1)) / 2, np.float64)


def exposures(world: World, states: Sequence[UserState], times: Ints, slots: Ints) -> Floats32:
    """How often each user was shown each candidate lately without a reaction, float32 [B, C]; older ones count less.

    `times` int64 [B] now, ms of event time; `slots` [B, C] of the candidates, -1 where there is none.
    """
    counts = [len(state.exposures) // EXPOSURE.itemsize for state in states]
    shown = np.frombuffer(b"".join(state.exposures for state in states), EXPOSURE)
    total = np.zeros(slots.shape, np.float32)
    if not len(shown):
        return total
    owner = np.repeat(np.arange(len(states)), counts)
    age = np.maximum(times[owner] / 60_000 - shown["minute"], 0)
    keys = owner * (len(world.catalogue) + 1) + world.catalogue.slots_of_hashes(shown["item"]) + 1
    unique, place = np.unique(keys, return_inverse=True)
    summed = np.bincount(place, weights=0.5 ** (age / HALF_LIFE_MINUTES))
    wanted = np.arange(len(slots))[:, None] * (len(world.catalogue) + 1) + slots + 1
    at = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
    return np.where((unique[at] == wanted) & (slots >= 0), summed[at], 0).astype(np.float32)
