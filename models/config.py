"""Shapes of the evolution model, and how time becomes buckets. Knows nothing about torch, weights or training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

ACTIONS = 256
"""Rows of the action table: one for every uint8 code, so a release meets no unknown action."""


@dataclass(frozen=True, slots=True)
class EvolutionConfig:
    """Shape of an evolution model.

    Attributes:
        dim: width of a hidden state and of an item vector, a multiple of ``heads``.
        layers: blocks, at least 2 (see ``history``).
        heads: attention heads of each block.
        window: events that a block looks back on, its own included (the band of the mask).
        hidden: width of the feed-forward layer.
        time_buckets: log2 buckets of time differences; the last takes everything longer.
        dropout: probability, in training only.
        temperature: τ at the start of training; it is learned from there.
        members: models side by side that share nothing but items' features and biases, each of width dim / members
            with its share of heads and of ``hidden``; a score is the mean of theirs.

    Raises:
        ValueError: a field is outside its range.
    """

    dim: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 50
    hidden: int = 256
    time_buckets: int = 28
    dropout: float = 0.2
    temperature: float = 0.15
    members: int = 1

    def __post_init__(self) -> None:
        # One layer would need window + 1 events for an exact rebuild (the gap before the oldest one).
        smallest = {"dim": 1, "layers": 2, "heads": 1, "window": 2, "hidden": 1, "time_buckets": 2, "members": 1}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ValueError(f"EvolutionConfig.{name} is {getattr(self, name)}, expected at least {least}")
        if self.dim % self.heads:
            raise ValueError(f"EvolutionConfig.dim is {self.dim}, expected a multiple of heads ({self.heads})")
        for name in ("heads", "hidden"):
            if getattr(self, name) % self.members:
                found = f"{getattr(self, name)}, expected a multiple of members ({self.members})"
                raise ValueError(f"EvolutionConfig.{name} is {found}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"EvolutionConfig.dropout is {self.dropout}, expected 0 <= dropout < 1")
        if self.temperature <= 0:
            raise ValueError(f"EvolutionConfig.temperature is {self.temperature}, expected a positive number")

    @classmethod
    def of_size(cls, size: int, members: int = 1, **changes: Any) -> EvolutionConfig:
        """Members of a given size: ``size`` layers and heads of width 32; one of 2 is the default shape."""
        widths = {"dim": 32 * size * members, "heads": size * members, "hidden": 128 * size * members}
        return cls(**({"layers": size, "members": members} | widths | changes))

    @property
    def history(self) -> int:
        """Events that rebuild a cache exactly: layers × window.

        The newest output depends on layers × (window − 1) + 1 events, and the oldest of these needs the
        time of the event before it, which is within layers × window from two layers on.
        """
        return self.layers * self.window


def time_buckets(milliseconds: Int64, buckets: int) -> Int64:
    """log2 bucket of a time difference, elementwise: 0 below one second, then [1, 2) s, [2, 4) s, ...

    Negative differences (clocks disagree) count as 0; everything past the last bucket falls into it.
    """
    exponent = np.frexp(milliseconds / 1000.0)[1]
    return np.clip(np.where(milliseconds > 0, exponent, 0), 0, buckets - 1).astype(np.int64)
