"""Pairs to learn the future from: a user's state, and what he did some time after it. NumPy.

A pair begins at something that happened; how far back to look from there is drawn evenly on a logarithmic scale, from
a minute to a month and a half, and the state is the one that the user was in then. What happened around the same
distance after it (from half of it to twice) is what had to be told. Knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.config import Int64
from models.exemplars import Exemplars

NEAREST, FARTHEST = 6.0, 22.0
"""log2 seconds: a minute, 48 days."""
REACH = 400
"""Interactions of the same user that may lie between; whoever had more in the time is not learned from."""
_DRAWS = 6  # per pair wanted: most distances lead to where the user was not there


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """B pairs.

    Attributes:
        ends: [B] number of the interaction after which the state is asked.
        now_ms: [B] its time.
        ahead_ms: [B] how far ahead.
        rows, items: [m] each case's targets, flat: the case, and the item.
    """

    ends: Int64
    now_ms: Int64
    ahead_ms: Int64
    rows: Int64
    items: Int64

    def __len__(self) -> int:
        return len(self.ends)

    def part(self, begin: int, end: int) -> Cases:
        """Some of the cases."""
        kept = (self.rows >= begin) & (self.rows < end)
        cut = slice(begin, end)
        return Cases(self.ends[cut], self.now_ms[cut], self.ahead_ms[cut], self.rows[kept] - begin, self.items[kept])


def draw(exemplars: Exemplars, size: int, random: np.random.Generator) -> Cases:
    """Up to ``size`` pairs, fewer where users do not come back; none of interactions that are still to come."""
    last = random.integers(exemplars.oldest, max(exemplars.total, exemplars.oldest + 1), size * _DRAWS)
    chain = exemplars.chains(last, REACH)
    there = chain >= 0
    times = exemplars.times_at(chain)
    wanted = 1000 * 2 ** random.uniform(NEAREST, FARTHEST, len(last))
    back = np.where(there, times[:, :1] - times, -1)
    at = np.argmax(back >= wanted[:, None], axis=1)
    row = np.arange(len(last))
    distance = back[row, at]
    found = np.flatnonzero((distance >= wanted) & (distance <= 2 * wanted))[:size]
    ahead = (distance[found] * 2 ** random.uniform(-0.5, 0.5, len(found))).astype(np.int64)
    now = times[found, at[found]]
    chain, at = chain[found], at[found]
    items = np.where(there[found], exemplars.items_at(chain), -1)
    after = times[found] - now[:, None]
    hit = (items >= 0) & (after > ahead[:, None] / 2) & (after <= 2 * ahead[:, None])
    hit &= np.arange(chain.shape[1]) < at[:, None]
    rows, places = np.nonzero(hit)
    return Cases(chain[np.arange(len(found)), at], now, ahead, rows, items[rows, places])
