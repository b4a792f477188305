"""Uniform exploration of the catalogue: a few items drawn from what was not retrieved join the candidates.

Without them an item that retrieval never returns could never be shown, and no logged slate could tell what it is worth.
Exact and without rejection: one uniform number for each item. Works on slots (rows of a catalogue); knows nothing
of how the others were retrieved or who asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy.plackett_luce import Floats, Ints
from policy.randomness import distinct_ranks


@dataclass(frozen=True)
class Pool:
    """The slots that may be drawn: those alive in one version of the catalogue. Build once per version."""

    slots: Ints  # [A]
    rank: Ints  # [highest slot + 1]: index into `slots`, -1 where not alive

    @classmethod
    def of(cls, slots: Ints) -> Pool:
        """`slots`: the distinct slots alive, int64 [A]. A number draws a place in their order, so that the same
        items should always come in the same order, whatever their slots are."""
        rank = np.full(int(slots.max(initial=-1)) + 1, -1, dtype=np.int64)
        rank[slots] = np.arange(len(slots))
        return cls(slots, rank)


def inject(retrieved: Ints, pool: Pool, excluded: tuple[Ints, Ints], uniforms: Floats) -> tuple[Ints, Floats]:
    """Draw m items for each row, uniformly without replacement from pool − retrieved − excluded.

    `retrieved` int64 [B, R] (-1 = none); `excluded` flat pairs (row int64 [n], slot int64 [n]), for example what the
    user has seen; `uniforms` float64 [B, m] in (0, 1). Slots that are not in the pool, and repeats, are ignored.
    Returns slots int64 [B, m] (-1 where fewer were eligible) and float64 [B]: the probability that any one eligible
    item is among those drawn, min(1, m / eligible), 0 where none was.
    """
    size, alive = len(retrieved), len(pool.slots)
    row, rank = _barred(retrieved, pool, excluded)
    count = np.bincount(row, minlength=size)
    start = np.cumsum(count) - count
    eligible = alive - count
    drawn = distinct_ranks(uniforms, eligible)
    # In a row whose barred ranks are x0 < x1 < ..., the r-th rank left is r + #{i: x_i - i <= r}. Offset by the row,
    # the keys x_i - i ascend over the whole batch, so that one search serves it.
    keys = row * (alive + 1) + rank - (np.arange(len(row)) - start[row])
    wanted = np.arange(size)[:, None] * (alive + 1) + drawn
    ranks = drawn + np.searchsorted(keys, wanted, side="right") - start[:, None]
    slots = np.where(drawn >= 0, pool.slots[np.where(drawn >= 0, ranks, 0)] if alive else -1, -1)
    probability = np.minimum(1.0, uniforms.shape[1] / np.maximum(eligible, 1)) * (eligible > 0)
    return slots, probability


def _barred(retrieved: Ints, pool: Pool, excluded: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Distinct (row, rank in the pool) pairs that may not be drawn, in ascending order."""
    size, width = retrieved.shape
    row = np.concatenate([np.repeat(np.arange(size), width), excluded[0]])
    slot = np.concatenate([retrieved.ravel(), excluded[1]])
    known = (slot >= 0) & (slot < len(pool.rank))
    row, rank = row[known], pool.rank[slot[known]]
    pairs = np.sort(row[rank >= 0] * len(pool.slots) + rank[rank >= 0])
    distinct = pairs[np.diff(pairs, prepend=-1) > 0]
    return np.divmod(distinct, max(len(pool.slots), 1))
