"""Maximum inner product search over item vectors that change while it runs.

Vectors are kept by slot in one contiguous float32 array. Below a threshold a search scores them all with one matrix
product and is exact; above it a FAISS inverted file visits the lists nearest to the query (IVF; Johnson et al. 2017).
Knows nothing of users, models, or what a slot stands for.

Threads. One lock guards the arrays: searches take turns with the short part of each mutation. Mutations are serialised
by a lock of their own, so that training a new inverted file (about 2 s for 100k vectors) does not hold up searches.
FAISS threads are set for the calling thread, at every call.
"""

from __future__ import annotations

import threading

import faiss
import numpy as np
from numpy.typing import NDArray

from index.growable import with_room
from index.inverted import InvertedFile

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

SCORE_BLOCK = 4_000_000  # scores held at once by an exact search: 16 MB
FLAG_BLOCK = 64_000_000  # (query, slot) flags held at once when excluding: 64 MB
RETRAIN_GROWTH = 4  # the inverted file is trained anew when the catalogue has grown by this factor


class ItemIndex:
    """Inner product search over vectors float32 [n, dim], known by slot.

    `exact_below`: number of vectors from which the inverted file is used. `nprobe`: lists it visits for a query.
    `version` names what made the vectors; it travels with a snapshot.
    """

    def __init__(
        self, dim: int, *, exact_below: int = 50_000, nprobe: int = 8, threads: int = 1, version: str = ""
    ) -> None:
        for name, value in (("dim", dim), ("exact_below", exact_below), ("nprobe", nprobe), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        self.dim = dim
        self.exact_below = exact_below
        self.nprobe = nprobe
        self.threads = threads
        self.version = version
        self._mutating = threading.Lock()
        self._lock = threading.Lock()
        self._count = 0
        self._rows = np.empty((0, dim), dtype=np.float32)
        self._slot_of_row = np.empty(0, dtype=np.int64)
        self._row_of_slot = np.empty(0, dtype=np.int64)  # -1 where the slot has no vector
        self._inverted: InvertedFile | None = None
        self._flags = np.empty(0, dtype=np.bool_)

    def __len__(self) -> int:
        return self._count

    @property
    def approximate(self) -> bool:
        """Whether searches go through the inverted file."""
        return self._inverted is not None

    def upsert(self, slots: Ints, vectors: Floats32) -> None:
        """Add or replace the vectors float32 [n, dim] of slots int64 [n]; of a slot given twice the last counts.

        Raises ValueError, before anything is changed, for a wrong shape, a negative slot or a number not finite.
        """
        slots = np.asarray(slots, dtype=np.int64)
        vectors = self._checked("vectors", vectors)
        if slots.shape != (len(vectors),):
            raise ValueError(f"slots has shape {slots.shape}, expected ({len(vectors)},)")
        if not len(slots):
            return
        if slots.min() < 0:
            raise ValueError(f"slot is {slots.min()}, expected at least 0")
        _, from_the_end = np.unique(slots[::-1], return_index=True)
        keep = len(slots) - 1 - from_the_end
        with self._mutating:
            with self._lock:
                self._store(slots[keep], vectors[keep])
            self._train_if_due()

    def delete(self, slots: Ints) -> None:
        """Remove the vectors of these slots, int64 [n]; slots without one are ignored."""
        slots = np.unique(np.asarray(slots, dtype=np.int64))
        with self._mutating, self._lock:
            slots = slots[(slots >= 0) & (slots < len(self._row_of_slot))]
            slots = slots[self._row_of_slot[slots] >= 0]
            if self._inverted is not None:
                self._inverted.remove(slots)
            for slot in slots.tolist():
                self._swap_remove(slot)

    def search(self, queries: Floats32, k: int) -> tuple[Ints, Floats32]:
        """The k best slots of each query float32 [B, dim], best first: slots int64 [B, k] (-1 = none), scores [B, k].

        Scores are inner products (-inf = none).
        """
        nothing = np.empty(0, dtype=np.int64)
        return self.search_excluding(queries, k, (nothing, nothing))

    def search_excluding(self, queries: Floats32, k: int, excluded: tuple[Ints, Ints]) -> tuple[Ints, Floats32]:
        """Like `search`, never returning an excluded slot: flat pairs (query row int64 [m], slot int64 [m]).

        Slots without a vector, and repeats, may be among the pairs. Gives k slots where there are k.
        """
        queries = self._checked("queries", queries)
        if k < 1:
            raise ValueError(f"k is {k}, expected at least 1")
        row, slot = np.asarray(excluded[0], dtype=np.int64), np.asarray(excluded[1], dtype=np.int64)
        if row.shape != slot.shape or row.ndim != 1:
            raise ValueError(f"excluded has shapes {row.shape} and {slot.shape}, expected twice (m,)")
        if len(row) and not (row.min() >= 0 and row.max() < len(queries)):
            raise ValueError(f"excluded names query {row.min()} to {row.max()}, expected 0 to {len(queries) - 1}")
        faiss.omp_set_num_threads(self.threads)
        with self._lock:
            known = (slot >= 0) & (slot < len(self._row_of_slot))
            row, slot = row[known], slot[known]
            known = self._row_of_slot[slot] >= 0
            row, slot = row[known], slot[known]
            return self._fetched(queries, k, row, slot)

    def search_exact(self, queries: Floats32, k: int) -> tuple[Ints, Floats32]:
        """Like `search`, over all vectors whatever their number: what recall is measured against."""
        nothing = np.empty(0, dtype=np.int64)
        with self._lock:
            return self._exact(self._checked("queries", queries), k, nothing, nothing)

    def scores(self, queries: Floats32, slots: Ints) -> Floats32:
        """Exact inner products of query b with slots int64 [B, C]: float32 [B, C], -inf for a slot without a vector."""
        queries = self._checked("queries", queries)
        with self._lock:
            known = (slots >= 0) & (slots < len(self._row_of_slot))
            rows = np.where(known, self._row_of_slot[np.where(known, slots, 0)] if known.any() else -1, -1)
            vectors = self._rows[np.maximum(rows, 0)] if self._count else np.zeros((*slots.shape, self.dim), np.float32)
        products = np.matmul(vectors, queries[:, :, None])[:, :, 0]
        return np.where(rows >= 0, products, np.float32(-np.inf))

    def export(self) -> tuple[Floats32, Ints, InvertedFile | None]:
        """A copy of the vectors [n, dim], of their slots [n] and of the inverted file, all of one moment."""
        with self._mutating:  # searches go on: only mutations write
            inverted = None if self._inverted is None else self._inverted.copy()
            return self._rows[: self._count].copy(), self._slot_of_row[: self._count].copy(), inverted

    def adopt(self, vectors: Floats32, slots: Ints, inverted: InvertedFile | None) -> None:
        """Fill an empty index with what `export` gave. Raises ValueError when it is not empty or shapes are wrong."""
        if self._count:
            raise ValueError(f"the index holds {self._count} vectors, expected an empty one")
        vectors = self._checked("vectors", vectors)
        if slots.shape != (len(vectors),) or len(np.unique(slots)) < len(slots):
            raise ValueError(f"slots has shape {slots.shape}, expected {len(vectors)} distinct ones")
        with self._mutating, self._lock:
            if len(slots):
                self._store(slots, vectors)
            self._inverted = inverted

    def _checked(self, name: str, vectors: Floats32) -> Floats32:
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dim:
            raise ValueError(f"{name} has shape {vectors.shape}, expected (n, {self.dim})")
        if not np.isfinite(vectors).all():
            raise ValueError(f"{name} holds NaN or infinity at row {np.argwhere(~np.isfinite(vectors))[0][0]}")
        return vectors

    def _store(self, slots: Ints, vectors: Floats32) -> None:
        self._row_of_slot = with_room(self._row_of_slot, int(slots.max()) + 1, fill=-1)
        rows = self._row_of_slot[slots]
        new = rows < 0
        total = self._count + int(new.sum())
        self._rows = with_room(self._rows, total)
        self._slot_of_row = with_room(self._slot_of_row, total)
        if self._inverted is not None:
            self._inverted.remove(slots[~new])
            self._inverted.add(slots, vectors)
        rows[new] = np.arange(self._count, total)
        self._rows[rows] = vectors
        self._slot_of_row[rows] = slots
        self._row_of_slot[slots] = rows
        self._count = total

    def _swap_remove(self, slot: int) -> None:
        """Put the last row in the place of this slot's row."""
        row, last = int(self._row_of_slot[slot]), self._count - 1
        self._rows[row] = self._rows[last]
        self._slot_of_row[row] = self._slot_of_row[last]
        self._row_of_slot[self._slot_of_row[row]] = row
        self._row_of_slot[slot] = -1
        self._count = last

    def _train_if_due(self) -> None:
        """Build the inverted file aside and swap it in. Only mutations write the rows, and this is one of them."""
        current = self._inverted
        due = self.exact_below if current is None else RETRAIN_GROWTH * current.trained_on
        if self._count < due:
            return
        faiss.omp_set_num_threads(self.threads)
        built = InvertedFile.train(self._rows[: self._count], self._slot_of_row[: self._count], self.nprobe)
        with self._lock:
            self._inverted = built

    def _exact(self, queries: Floats32, k: int, row: Ints, slot: Ints) -> tuple[Ints, Floats32]:
        slots = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        width = min(k, self._count)
        block = max(1, SCORE_BLOCK // max(self._count, 1))
        for start in range(0, len(queries) if width else 0, block):
            products = queries[start : start + block] @ self._rows[: self._count].T
            here = (row >= start) & (row < start + block)
            products[row[here] - start, self._row_of_slot[slot[here]]] = -np.inf
            best, found = _best(products, width)
            stop = start + len(products)
            scores[start:stop, :width] = found
            slots[start:stop, :width] = np.where(np.isneginf(found), -1, self._slot_of_row[best])
        return slots, scores

    def _fetched(self, queries: Floats32, k: int, row: Ints, slot: Ints) -> tuple[Ints, Floats32]:
        """Over-fetch and filter; rows that fall short are searched again, exactly."""
        if not self._count:
            return self._exact(queries, k, row, slot)
        barred = np.bincount(row, minlength=len(queries))
        fetch = min(k + min(int(barred.max(initial=0)), k), self._count)
        slots, scores = self._scan(queries, fetch) if self._inverted is None else self._inverted.search(queries, fetch)
        self._strike_out(slots, scores, row, slot)
        slots, scores = _closed_up(slots, scores, k)
        short = np.flatnonzero((slots >= 0).sum(axis=1) < min(k, self._count))
        if len(short):
            place = np.full(len(queries), -1)
            place[short] = np.arange(len(short))
            again = place[row] >= 0
            slots[short], scores[short] = self._exact(queries[short], k, place[row[again]], slot[again])
        return slots, scores

    def _scan(self, queries: Floats32, k: int) -> tuple[Ints, Floats32]:
        """The k best of all vectors, k at most their number."""
        scores, rows = faiss.knn(queries, self._rows[: self._count], k, metric=faiss.METRIC_INNER_PRODUCT)
        return self._slot_of_row[rows], scores

    def _strike_out(self, slots: Ints, scores: Floats32, row: Ints, slot: Ints) -> None:
        """Set excluded entries of a search result to (-1, -inf), in place, by flags over (query, slot)."""
        span = len(self._row_of_slot)
        block = max(1, FLAG_BLOCK // span)
        for start in range(0, len(slots), block):
            part = slice(start, start + block)
            height = len(slots[part])
            self._flags = with_room(self._flags, height * span)
            here = (row >= start) & (row < start + height)
            marks = (row[here] - start) * span + slot[here]
            self._flags[marks] = True
            struck = (slots[part] >= 0) & self._flags[np.arange(height)[:, None] * span + np.maximum(slots[part], 0)]
            self._flags[marks] = False
            slots[part][struck] = -1
            scores[part][struck] = -np.inf


def _best(products: Floats32, width: int) -> tuple[Ints, Floats32]:
    """Columns and values of the `width` largest of each row, largest first."""
    if width < products.shape[1]:
        columns = np.argpartition(-products, width - 1, axis=1)[:, :width]
        products = np.take_along_axis(products, columns, axis=1)
    else:
        columns = np.broadcast_to(np.arange(width), products.shape)
    order = np.argsort(-products, axis=1)
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(products, order, axis=1)


def _closed_up(slots: Ints, scores: Floats32, k: int) -> tuple[Ints, Floats32]:
    """The first k entries of each row that are not struck out, in order, padded to k."""
    order = np.argsort(slots < 0, axis=1, kind="stable")[:, :k]
    slots, scores = np.take_along_axis(slots, order, axis=1), np.take_along_axis(scores, order, axis=1)
    missing = ((0, 0), (0, k - slots.shape[1]))
    return np.pad(slots, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)
