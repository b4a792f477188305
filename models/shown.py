"""Slates that users were shown, and what they clicked: the examples that tell taste from exposure.

By the position-based model P(click at k) = η_k · r: an item that was shown, looked at and left alone says as much as
one that was clicked, and one that was not shown says nothing. NumPy only; knows nothing of models, or of how η was
learned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.config import Bool, Float32, Int64
from models.exemplars import Exemplars
from models.recent import Before

MOST_CERTAIN = 0.999
"""Of a click: no log-likelihood of none is worse than log(1 - this)."""


@dataclass(frozen=True, slots=True, eq=False)
class SlateLog:
    """n slates whose outcome is known, of up to k items.

    Attributes:
        users: [n] codes, as in an ``InteractionLog``.
        times_ms: [n] UTC; what the user had done until then is what the slate was made for.
        items: [n, k] rows of an item list in order of position, -1 for unknown ones and beyond the end.
        clicks: [n, k].
        examination: [n, k] η > 0, how likely each position is looked at.

    Raises:
        ValueError: the arrays disagree in shape, or an η is not positive.
    """

    users: Int64
    times_ms: Int64
    items: Int64
    clicks: Bool
    examination: Float32

    def __post_init__(self) -> None:
        n, shape = len(self.users), self.items.shape
        if self.times_ms.shape != (n,) or len(shape) != 2 or shape[0] != n:
            raise ValueError(f"SlateLog: users {n}, times {self.times_ms.shape}, items {shape}, expected n of each")
        if self.clicks.shape != shape or self.examination.shape != shape:
            found = f"{self.clicks.shape}, {self.examination.shape}"
            raise ValueError(f"SlateLog: clicks and examination are {found}, expected {shape}")
        if not (self.examination > 0).all():
            raise ValueError(f"SlateLog.examination holds {self.examination.min()}, expected positive numbers")

    def __len__(self) -> int:
        return len(self.users)


def surplus(scores: Float32, clicks: Bool, examination: Float32) -> Float32:
    """[...] the gradient of −log P(click or none) = −log of η·r or 1 − η·r in the score, r = σ(score)."""
    reward = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    missed = 1 - np.minimum(examination * reward, MOST_CERTAIN)
    found: Float32 = np.where(clicks, reward - 1, examination * reward * (1 - reward) / missed).astype(np.float32)
    return found


def information(scores: Float32, examination: Float32) -> Float32:
    """[...] Fisher's information that a position tells of the score: the expected square of `surplus`."""
    reward = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    missed = 1 - np.minimum(examination * reward, MOST_CERTAIN)
    found: Float32 = (examination * reward * (1 - reward) ** 2 / missed).astype(np.float32)
    return found


def level_of(scores: Float32, clicks: Bool, examination: Float32, there: Bool) -> float:
    """What is to be added to scores [...] so that as many clicks are expected as there were; within -12 to 12."""
    low, high, clicked = -12.0, 12.0, float((clicks & there).sum())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reward = 1 / (1 + np.exp(-np.clip(scores + middle, -30, 30)))
        expected = float((np.minimum(examination * reward, MOST_CERTAIN) * there).sum())
        low, high = (middle, high) if expected < clicked else (low, middle)
    return (low + high) / 2


_HALVINGS = 20
_SINCE = 64
"""How many of a user's interactions are looked at for those after his slate was made."""


def before(exemplars: Exemplars, slates: SlateLog, length: int) -> tuple[Int64, Before]:
    """Where in his history each slate's user was: the number of his last interaction before it, [n], -1: none is known;
    and what was known of him then, from his last `length` interactions."""
    chain = exemplars.chains(exemplars.newest(slates.users), _SINCE)
    earlier = (chain >= 0) & (exemplars.times_at(chain) <= slates.times_ms[:, None])
    ends = np.where(earlier.any(axis=1), chain[np.arange(len(chain)), earlier.argmax(axis=1)], -1)
    chain = exemplars.chains(ends, max(length, 2))
    times, there = exemplars.times_at(chain), chain >= 0
    gap_s = np.where(there[:, 1], np.maximum(times[:, 0] - times[:, 1], 0) / 1000, -1).astype(np.float32)
    return ends, Before(exemplars.items(chain)[:, :length], there.sum(axis=1), gap_s)
