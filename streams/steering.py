"""The fairness term of a batch: which group each candidate is of, what its pair gets, and which slates are left alone.

Between the controller, which knows groups only, and the slates. Knows the world's categories and estimates; knows
nothing of Kafka, of messages or of how a term comes about.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from index.categories import Categories
from policy.fairness import FairnessConfig, held_out
from streams.adjusting import Adjusted, Grouping, Scene

Ints = NDArray[np.int64]
TERM = "fairness"


def with_fairness(adjusted: Adjusted, scene: Scene, config: FairnessConfig) -> Adjusted:
    """Add the term to what was adjusted before; `adjusted.slots` are those that stay."""
    groups = item_groups(config, scene.world.categories, adjusted.slots)
    users = np.array([config.user_group(state.group) for state in scene.states], np.int64)
    alone = held_out(config.holdout, scene.policy.seed, scene.partition, scene.offsets)
    term = np.zeros(groups.shape, np.float32)
    rates = scene.world.steering(config)
    if rates is not None:
        there = (groups >= 0) & ((users >= 0) & ~alone)[:, None]
        term[there] = rates.term[np.broadcast_to(users[:, None], groups.shape)[there], groups[there]]
    steered = [None if user < 0 else not left for user, left in zip(users.tolist(), alone.tolist(), strict=True)]
    grouping = Grouping(list(config.items), groups, steered)
    return replace(adjusted, adjustments={**adjusted.adjustments, TERM: term}, grouping=grouping)


def item_groups(config: FairnessConfig, categories: Categories, slots: Ints) -> Ints:
    """Index of the group of each slot's item, int64 [...], -1 for an item in none and for slot -1."""
    none = len(config.items)
    of_number = np.full(len(categories) + 1, none, np.int64)  # the last is for -1, no category
    for name, at in config.group_of.items():
        if name in categories.numbers:
            of_number[categories.numbers[name]] = at
    found: Ints = of_number[categories.of(slots)].min(axis=-1, initial=none)
    return np.where(found == none, -1, found)
