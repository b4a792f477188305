"""How much each item is wanted beyond what else is known of it: one number an item, learned from slates.

The position-based likelihood, by steps that Fisher's information scales: what is new is learned fast, what is well
known moves little; the information fades, so that the numbers go on following. Knows nothing of users or features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from models.config import Float32, Int64

Arrays = dict[str, npt.NDArray[Any]]

PRIOR = 1.0
"""Information that an item's 0 is taken to rest on."""


class Liked:
    """Numbers of n items, float32; 0 to begin with. ``memory``: information after which the first of it counts 1/e."""

    def __init__(self, items: int, memory: float) -> None:
        self.memory = memory
        self.values: Float32 = np.zeros(items, np.float32)
        self._information: Float32 = np.zeros(items, np.float32)

    def grow(self, items: int) -> None:
        """Make room for items up to so many."""
        more = max(0, items - len(self.values))
        self.values, self._information = (np.pad(one, (0, more)) for one in (self.values, self._information))

    def learn(self, rows: Int64, surplus: Float32, information: Float32) -> None:
        """Step down the gradients `surplus` of what was shown, all flat [m], which told so much."""
        told = np.bincount(rows, information, len(self.values)).astype(np.float32)
        self._information += told
        slope = np.bincount(rows, surplus, len(self.values)).astype(np.float32)
        self.values -= slope / (self._information + np.float32(PRIOR))
        # The prior pulls back as far as what is known has faded.
        kept = np.exp(-told / np.float32(self.memory))
        self._information *= kept

    def hopeful(self, optimism: float) -> Float32:
        """The numbers, each raised by so many of its standard deviations: what is hardly known may be better."""
        raised: Float32 = self.values + np.float32(optimism) / np.sqrt(self._information + np.float32(PRIOR))
        return raised

    def state(self) -> Arrays:
        """Everything, exactly. Not a copy: write it before going on."""
        return {"values": self.values, "information": self._information}

    def restore(self, values: Float32, information: Float32) -> None:
        """Be as ``state`` said."""
        self.values, self._information = values.copy(), information.copy()
