"""A FAISS inverted file over slots: trained once, then vectors come and go.

Knows nothing of exact search, of exclusion or of what a slot stands for.
"""

from __future__ import annotations

import math
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

HASHTABLE = 2  # faiss.DirectMap.Hashtable, which FAISS's type stubs leave out
POINTS_PER_LIST = 39  # fewer training points for a list than this, and FAISS warns of poor clusters


class InvertedFile:
    """Approximate inner product search: about 4·√n lists of float32 vectors, `nprobe` lists visited for a query."""

    def __init__(self, index: Any, nprobe: int, trained_on: int) -> None:
        self.index = index
        self.trained_on = trained_on
        self._lists = cast(Any, faiss.downcast_index(index))
        self._lists.nprobe = nprobe

    @classmethod
    def train(cls, vectors: Floats32, slots: Ints, nprobe: int) -> InvertedFile:
        """Cluster `vectors` float32 [n, dim] and add them under `slots` int64 [n]."""
        count, dim = vectors.shape
        lists = 2 ** round(math.log2(4 * math.sqrt(count)))
        lists = max(1, min(lists, count // POINTS_PER_LIST))
        index: Any = faiss.index_factory(dim, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.set_direct_map_type(HASHTABLE)  # finds a slot's vector, so that it can be removed
        index.add_with_ids(vectors, slots)
        return cls(index, nprobe, count)

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8], nprobe: int, trained_on: int) -> InvertedFile:
        """The inverted file that `to_bytes` gave."""
        return cls(faiss.deserialize_index(data), nprobe, trained_on)

    def to_bytes(self) -> NDArray[np.uint8]:
        """FAISS's own file format, uint8 [n]."""
        return np.asarray(faiss.serialize_index(self.index))

    def copy(self) -> InvertedFile:
        """One that does not follow later changes."""
        return InvertedFile(faiss.clone_index(self.index), self._lists.nprobe, self.trained_on)

    def add(self, slots: Ints, vectors: Floats32) -> None:
        """Add vectors under slots that are not in it."""
        self.index.add_with_ids(vectors, slots)

    def remove(self, slots: Ints) -> None:
        """Remove slots that are in it."""
        if len(slots):
            slots = np.ascontiguousarray(slots)
            self.index.remove_ids(faiss.IDSelectorArray(len(slots), faiss.swig_ptr(slots)))

    def search(self, queries: Floats32, k: int) -> tuple[Ints, Floats32]:
        """Best slots int64 [B, k] (-1 = none) and their inner products float32 [B, k] (-inf = none)."""
        scores, slots = self.index.search(queries, k)
        scores[slots < 0] = -np.inf
        return slots, scores
