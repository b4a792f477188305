"""Reward: how likely an item is clicked once it is looked at, learned from positions that are looked at unequally.

P(click) = η_k · r̂(user, item), fitted by likelihood: η, the examination of the position, is given, and r̂ a logistic
regression over hashed indicators. Steps are scaled by the Fisher information that each weight has gathered, so that
what is new is learned fast and what is well known moves little; the information is forgotten, so that weights go on
following. `pseudo_reward` makes a label of it that is right in expectation, given η, when π or r̂ is (doubly robust).
Knows nothing of Kafka, of slates as messages, or of how η is learned.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEATURES = 4
"""Of an item shown to a user: a constant, the user's segment, the item, both together."""

EXAMINATION_FLOOR = 0.05
LARGEST_WEIGHT = 10.0
"""Bound of 1/π (clipped inverse propensities, Ionides 2008): one lucky exposure counts as ten ordinary ones at most."""

PRIOR = np.array([4.0, 4.0, 1.0, 4.0])
"""Information that each feature's weight of 0 is taken to rest on: a Gaussian prior of that precision."""
LARGEST_LOGIT = 12.0


class RewardModel:
    """r̂ = P(click | looked at). Weights are bounded by 2**bits buckets. Not safe for concurrent mutation.

    `memory`: observations of a feature after which the first of them counts 1/e.
    """

    def __init__(self, bits: int = 15, memory: float = 5000.0) -> None:
        if not 1 <= bits <= 30:
            raise ValueError(f"bits is {bits}, expected 1 to 30")
        if not memory >= 1:
            raise ValueError(f"memory is {memory}, expected at least 1 observation")
        self.bits, self.memory = bits, memory
        self._keep = float(np.exp(-1 / memory))
        self._weight = np.zeros(1 << bits)
        self._information = np.zeros(1 << bits)

    def features(self, segment: str, items: list[str]) -> Ints:
        """Buckets of items shown to a user of a segment, int64 [n, FEATURES]."""
        bits = self.bits
        common = [_bucket("", bits), _bucket(f"segment={segment}", bits)]
        rows = [
            [*common, _bucket(f"item={item}", bits), _bucket(f"segment={segment}\0item={item}", bits)] for item in items
        ]
        return np.array(rows, np.int64).reshape(-1, FEATURES)

    def predict(self, features: Ints) -> Floats:
        """r̂ of each row of `features` [n, FEATURES], float64 [n], within (0, 1)."""
        logits = self._weight[features].sum(axis=1)
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT))))

    def learn(self, features: Ints, clicks: NDArray[np.bool_], examination: Floats) -> None:
        """One slate: `features` [n, FEATURES] of what was shown, what of it was clicked [n], η of its positions [n].

        Raises ValueError when an η is not a positive number.
        """
        if not len(features):
            return
        if not (examination > 0).all():
            raise ValueError(f"examination is {examination.min()}, expected positive numbers")
        reward = self.predict(features)
        missed = 1 - np.minimum(examination * reward, 0.999)  # P(no click)
        score = np.where(
            clicks, 1 - reward, -examination * reward * (1 - reward) / missed
        )  # d log-likelihood / d logit
        information = examination * reward * (1 - reward) ** 2 / missed
        every, n = features.ravel(), features.shape[1]
        np.multiply.at(self._information, every, self._keep)
        np.add.at(self._information, every, np.repeat(information, n))
        steps = score[:, None] / (self._information[features] + PRIOR)
        np.add.at(self._weight, every, steps.ravel())

    def quicken(self, factor: float) -> None:
        """Let what comes next count `factor` times as much; no prediction changes by it. Raises ValueError below 1."""
        if not factor >= 1:
            raise ValueError(f"factor is {factor}, expected at least 1")
        self._information /= factor

    def state(self) -> dict[str, Any]:
        """Everything needed to go on: numbers, and of the buckets that have learned something, ascending, arrays
        `bucket` int64, `weight` and `information` float64."""
        used = np.flatnonzero(self._information)
        arrays = {"bucket": used, "weight": self._weight[used], "information": self._information[used]}
        return {"bits": self.bits, "memory": self.memory, **arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> RewardModel:
        """The model that gave `state`; arrays may come as lists. Raises ValueError when they disagree."""
        restored = cls(int(state["bits"]), float(state["memory"]))
        bucket = np.array(state["bucket"], np.int64)
        weight, information = (np.array(state[name], np.float64) for name in ("weight", "information"))
        if not bucket.shape == weight.shape == information.shape == (bucket.size,):
            shapes = f"{bucket.shape}, {weight.shape}, {information.shape}"
            raise ValueError(f"bucket, weight, information have shapes {shapes}, expected one of one dimension")
        if bucket.size and not 0 <= bucket.min() <= bucket.max() < len(restored._weight):
            raise ValueError(f"bucket is {bucket.min()} to {bucket.max()}, expected 0 to 2**{restored.bits} - 1")
        restored._weight[bucket], restored._information[bucket] = weight, information
        return restored


def pseudo_reward(
    reward: Floats,
    clicks: NDArray[np.bool_],
    examination: Floats,
    inclusion: Floats,
    largest: float = LARGEST_WEIGHT,
) -> Floats:
    """Doubly robust pseudo-reward of what was shown: r̂ + min(1/π, M) · (c/η − r̂), float64 [n].

    `reward` r̂, `clicks` c, `examination` η (below EXAMINATION_FLOOR it counts as that), `inclusion` π(item in the
    slate), all [n]; `largest` M, 10 to 20. An item that was not shown has r̂. In expectation over what is shown
    and looked at it is the reward, if η is right, and π or r̂ is; M bounds its variance, and errs towards r̂.
    """
    weight = np.minimum(1 / np.maximum(inclusion, 1e-9), largest)
    return np.asarray(reward + weight * (clicks / np.maximum(examination, EXAMINATION_FLOOR) - reward))


@lru_cache(maxsize=65_536)
def _bucket(name: str, bits: int) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") & ((1 << bits) - 1)
