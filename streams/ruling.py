"""Rules applied to a batch of candidates: who leaves, what is added, what is pinned.

Knows catalogues and rules; knows nothing of files, of messages or of how a draw is made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from policy.rules import Rules, Shift, Target
from streams.world import World

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]
Flags = NDArray[np.bool_]


def hits(world: World, target: Target, users: Sequence[str], slots: Ints) -> Flags:
    """Whether the target concerns user b's candidate c, bool [B, C]."""
    concerned = np.array([target.concerns(user) for user in users], np.bool_)
    among = np.zeros(slots.shape, np.bool_)
    if not concerned.any():
        return among
    if target.categories:
        among |= world.categories.any_of(slots, target.categories)
    if target.items:
        known = world.catalogue.slots(sorted(target.items))
        among |= np.isin(slots, known[known >= 0])
    return among & concerned[:, None] & (slots >= 0)


def filtered(world: World, rules: Rules, users: Sequence[str], slots: Ints) -> Ints:
    """The candidates, -1 for those that a filter bars."""
    for target in rules.filters:
        slots = np.where(hits(world, target, users, slots), -1, slots)
    return slots


def shifted(world: World, shifts: Sequence[Shift], users: Sequence[str], slots: Ints) -> Floats32:
    """What boosts, or buries, add up to, float32 [B, C]."""
    added = np.zeros(slots.shape, np.float32)
    for shift in shifts:
        added += np.where(hits(world, shift.target, users, slots), np.float32(shift.by), np.float32(0))
    return added


def capped(world: World, rules: Rules, slots: Ints, logits: Floats32, pinned: Flags) -> Ints:
    """The candidates, -1 for those of a category beyond the best so many of it; what is pinned counts as the best."""
    order = np.argsort(-np.where(pinned, np.inf, logits), axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")
    for name in sorted(rules.caps):
        member = world.categories.any_of(slots, [name]) & (slots >= 0)
        before = np.cumsum(np.take_along_axis(member, order, axis=1), axis=1)
        slots = np.where(member & (np.take_along_axis(before, place, axis=1) > rules.caps[name]), -1, slots)
    return slots


def pins(world: World, rules: Rules, users: Sequence[str], k: int) -> Ints | None:
    """The slot that stands at each position of each user's slate, int64 [B, k], -1 for none; None: nothing is pinned.

    An item that the catalogue does not have, or that is withdrawn, is not pinned; nor is one that a filter bars, or
    that would break a cap with the pins before it.
    """
    listed = [pin for pin in rules.pins if pin.position <= k]
    if not listed:
        return None
    slots = world.catalogue.slots([pin.item for pin in listed])
    slots[slots >= 0] = np.where(world.catalogue.alive[slots[slots >= 0]], slots[slots >= 0], -1)
    result = np.full((len(users), k), -1, np.int64)
    for pin, slot in zip(listed, slots.tolist(), strict=True):
        result[[pin.concerns(user) for user in users], pin.position - 1] = slot
    result = filtered(world, rules, users, result)
    first = np.broadcast_to(-np.arange(k, dtype=np.float32), result.shape)
    return capped(world, rules, result, first, np.zeros(result.shape, np.bool_))
