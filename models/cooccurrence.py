"""Counts of a release in service: which items go with what a user did last, and by how much. In rows of the release.

A list names neighbours of each item; tables on it say what each pair counts. A user's sum for an item, under a table,
is the sum over his last items of (what an event of that age counts) x (what the pair counts). Candidates come from a
sparse product with the strongest neighbours of his newest items, and, where a release may repeat, those items
themselves; sums are then made in full for the items that are asked for. A row of a batch depends on nothing but that
user's items and the release. Knows nothing of how tables are learned, of catalogues or of users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from models import sections
from models.config import Bool, Float32, Int64
from models.sections import Arrays

NEWEST, STRONGEST = 10, 64
"""Candidates are the strongest neighbours of the newest items; further ones cost time and hardly reach the top."""

PLACES = 16_000_000
"""Places, one for each (user, item), of the users that are looked at together: 48 MB."""

Int32 = npt.NDArray[np.int32]
_HALF, _LAST = np.uint64(32), np.uint64(2**32 - 1)


@dataclass(frozen=True, slots=True)
class _List:
    """Neighbours int32 [n, M], -1 where empty; of each table values [n, M] and ages [L], 0 from its own length on."""

    neighbours: Int32
    values: dict[str, Float32]
    ages: dict[str, Float32]

    @classmethod
    def of(cls, arrays: Arrays, name: str) -> _List:
        tables = sections.tables_of(arrays, name)
        ages = {table: arrays[f"counts.{name}.{table}.ages"] for table in tables}
        longest = max(map(len, ages.values()))
        return cls(
            arrays[f"counts.{name}.neighbours"],
            {table: arrays[f"counts.{name}.{table}.values"] for table in tables},
            {table: np.pad(one, (0, longest - len(one))) for table, one in ages.items()},
        )

    @property
    def length(self) -> int:
        return len(next(iter(self.ages.values())))


class ServingCounts:
    """The counts of a release of n items. One thread at a time.

    Arrays may hold the rows of some items only, with neighbours among `items` of them; `recent` then refers to rows.

    Attributes:
        length: how many of a user's last items matter.
        columns: what is known of each item, float32 [n + 1] by name; the last is for an item the release does not know.
        floors: of each table, the sum at which the logarithm of its feature begins to rise.
    """

    def __init__(self, arrays: Arrays, source: str, items: int | None = None) -> None:
        self._lists = [_List.of(arrays, name) for name in sections.lists(arrays)]
        self.length: int = max(one.length for one in self._lists)
        self._rows = len(self._lists[0].neighbours)
        self.items: int = self._rows if items is None else items
        self.columns: dict[str, Float32] = {name: arrays[f"counts.items.{name}"] for name in sections.columns(arrays)}
        self.floors = sections.floors(arrays)
        giving = next(one for one in self._lists if source in one.values)
        self._giving = _strongest(giving.neighbours, giving.values[source], self.items)
        read = giving.ages[source][:NEWEST]
        self._ages = np.pad(read, (0, NEWEST - len(read)))
        if sections.ITSELF in sections.lists(arrays):
            own = arrays[f"counts.{sections.ITSELF}.neighbours"]
            self._giving = self._giving + _strongest(own, np.where(own >= 0, self._above_all(), 0), self.items)
        self._marked: Bool = np.empty(0, np.bool_)
        self._column: npt.NDArray[np.int16] = np.empty(0, np.int16)

    def candidates(self, recent: Int64, most: int, barred: tuple[Int64, Int64], available: Bool) -> Int64:
        """The items with the largest sums in the table that gives candidates, as far as its strongest neighbours say.

        Where the release has the list ``sections.ITSELF``, a user's own last items come before all others: what he took
        since the release was made is in no count, and is what he is likeliest to come back to.

        Args:
            recent: [B, L] rows of each user's last items, newest first; -1: none, or not known to the release.
            most: how many to find.
            barred: flat pairs (user int64 [m], row int64 [m]) that are left out.
            available: [n] rows that may be found.

        Returns:
            [B, most] rows, the largest sums first and lower rows before higher ones; -1 beyond what there is.
        """
        known, counted = recent[:, :NEWEST] >= 0, self._ages[: recent.shape[1]]
        ends = np.concatenate([[0], known.sum(axis=1).cumsum()]).astype(np.int32)
        rows = recent[:, :NEWEST][known].astype(np.int32)
        weights = np.broadcast_to(counted, known.shape)[known]
        sums = csr_array((weights, rows, ends), shape=(len(recent), self._rows)) @ self._giving
        found = np.full((len(recent), most), -1, np.int64)
        for users in self._blocks(len(recent)):
            ends = sums.indptr[users.start : users.stop + 1]
            entries = slice(int(ends[0]), int(ends[-1]))
            items, counts = sums.indices[entries], np.diff(ends)
            struck = self._struck(users, items, counts, barred) | ~available[items]
            _take_best(found[users], np.where(struck, np.float32(0), sums.data[entries]), items, counts)
        return found

    def sums(self, recent: Int64, rows: Int64) -> dict[str, Float32]:
        """Sums of items by table, float32 [B, C].

        `recent` as for `candidates`, `rows` [B, C] the items; no item twice in a row, -1: none, 0.
        """
        parts = [self._sums_of(recent[users], rows[users]) for users in self._blocks(len(recent))]
        if not parts:
            return {table: np.zeros(rows.shape, np.float32) for one in self._lists for table in one.values}
        return {table: np.concatenate([part[table] for part in parts]) for table in parts[0]}

    def _sums_of(self, recent: Int64, rows: Int64) -> dict[str, Float32]:
        """As `sums`, for users of one block."""
        width, stride = rows.shape[1], self.items + 1
        # Place 0 of each user is that of no item: it is never marked, and no neighbour's either.
        asked = rows + (np.arange(len(rows)) * stride + 1)[:, None]
        self._room(len(rows) * stride)
        self._column[asked] = np.arange(width)
        self._marked[asked] = rows >= 0
        found: dict[str, Float32] = {}
        for one in self._lists:
            user, age = np.nonzero(recent[:, : one.length] >= 0)
            item = recent[user, age]
            places = (one.neighbours[item] + (user * stride + 1)[:, None]).ravel()
            hits = np.flatnonzero(self._marked[places])
            event, place = np.divmod(hits, one.neighbours.shape[1])
            cell = user[event] * width + self._column[places[hits]]
            for table, values in one.values.items():
                counted = values[item[event], place] * one.ages[table][age[event]]
                summed = np.bincount(cell, weights=counted, minlength=rows.size)
                found[table] = summed.astype(np.float32).reshape(rows.shape)
        self._marked[asked] = False
        return found

    def _struck(self, users: slice, items: Int32, counts: Int32, barred: tuple[Int64, Int64]) -> Bool:
        """Which entries are barred; they lie user by user, `counts` [B] of them."""
        size = users.stop - users.start
        here = (barred[0] >= users.start) & (barred[0] < users.stop)
        marked = (barred[0][here] - users.start) * self.items + barred[1][here]
        self._room(size * self.items)
        self._marked[marked] = True
        struck: Bool = self._marked[np.repeat(np.arange(size) * self.items, counts) + items]
        self._marked[marked] = False
        return struck

    def _above_all(self) -> np.float32:
        """More than any sum over the newest items, for each of them."""
        read = self._ages[self._ages > 0]
        most = self._giving.data.max(initial=0) * read.sum() / read.min(initial=1)
        return np.float32(1 + 2 * most)

    def _blocks(self, users: int) -> list[slice]:
        height = max(1, PLACES // (self.items + 1))
        return [slice(start, min(start + height, users)) for start in range(0, users, height)]

    def _room(self, size: int) -> None:
        """Make places: none marked, their columns anything."""
        if len(self._marked) < size:
            self._marked, self._column = np.zeros(size, np.bool_), np.zeros(size, np.int16)


def _strongest(neighbours: Int32, values: Float32, items: int) -> csr_array:
    """The sparse matrix [rows, items] of each row's strongest neighbours; of equal ones those that come first."""
    if neighbours.shape[1] > STRONGEST:
        order = np.argsort(-values, axis=1, kind="stable")[:, :STRONGEST]
        neighbours, values = np.take_along_axis(neighbours, order, 1), np.take_along_axis(values, order, 1)
    there = (neighbours >= 0) & (values > 0)
    ends = np.concatenate([[0], there.sum(axis=1).cumsum()]).astype(np.int32)
    return csr_array((values[there], neighbours[there], ends), shape=(len(neighbours), items))


def _take_best(found: Int64, sums: Float32, items: Int32, counts: Int32) -> None:
    """Write the best items into `found` [B, most]. Entries lie user by user, `counts` [B] of them; a sum of 0: none.

    A key has the sum's bits, which for numbers not below 0 are in their order, and then the item's, lower ones first:
    no two are equal, so that an unstable sort does.
    """
    most, widest = found.shape[1], int(counts.max(initial=0))
    if not most:
        return
    keys = np.zeros((len(counts), widest), np.uint64)
    bits = sums.view(np.uint32).astype(np.uint64)
    keys[np.arange(widest) < counts[:, None]] = (bits << _HALF) | (_LAST - items.astype(np.uint64))
    if widest > most:
        keys = np.partition(keys, widest - most, axis=1)[:, widest - most :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    items_of = (_LAST - (keys & _LAST)).astype(np.int64)
    found[:, : keys.shape[1]] = np.where(keys >> _HALF > 0, items_of, -1)
