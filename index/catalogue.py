"""The catalogue: id, slot and hash of every item ever known, and which are alive.

A slot is the item's row in every per-item array of the process. It is given once and never reused: a deleted item keeps
its slot and id, because users' histories refer to it, and comes back in the same slot. A forgotten item is known to
nobody any more, and would come back in a new one. Features are opaque here.
One thread changes a catalogue; knows nothing of users, vectors or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.growable import with_room
from index.hashing import item_hash

Slots = NDArray[np.int64]
UNKNOWN = -1


class Catalogue:
    """Items by slot. `version` grows with every call that changed something."""

    def __init__(self) -> None:
        self.version = 0
        self.features: list[Any] = []  # by slot
        self._ids: list[str] = []  # by slot
        self._by_id: dict[str, int] = {}
        self._by_hash: dict[int, int] = {}
        self._hashes = np.empty(0, dtype=np.uint64)
        self._alive = np.empty(0, dtype=np.bool_)
        self._alive_slots: Slots | None = None

    def __len__(self) -> int:
        """Number of slots given out, deleted items included."""
        return len(self._ids)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Whether the item of each slot is alive, bool [len(self)]; a view, not to be written to."""
        return self._alive[: len(self)]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Hash of the item of each slot, uint64 [len(self)]; a view, not to be written to."""
        return self._hashes[: len(self)]

    def alive_slots(self) -> Slots:
        """Slots of the items alive, ascending; not to be written to."""
        if self._alive_slots is None:
            self._alive_slots = np.flatnonzero(self.alive)
        return self._alive_slots

    def upsert(self, ids: Sequence[str], features: Sequence[Any]) -> Slots:
        """Add items, or replace the features of known ones and revive them; returns their slots, int64 [n].

        Raises ValueError, before anything is changed, when the lengths differ, an id is not 1 to 256 bytes of UTF-8, or
        two ids have the same hash (one pair in 3·10^7 catalogues of a million items).
        """
        if len(ids) != len(features):
            raise ValueError(f"features has {len(features)} entries, expected one for each of {len(ids)} ids")
        hashes = [item_hash(item) for item in ids]
        self._refuse_collisions(ids, hashes)
        self._alive = with_room(self._alive, len(self) + len(ids))
        self._hashes = with_room(self._hashes, len(self) + len(ids))
        for item, hash_, feature in zip(ids, hashes, features, strict=True):
            if item not in self._by_id:
                self._append(item, hash_)
            self.features[self._by_id[item]] = feature
        slots = self.slots(ids)
        self._alive[slots] = True
        self._changed(len(slots))
        return slots

    def delete(self, ids: Sequence[str]) -> Slots:
        """Mark items as gone; returns the slots of those that were alive, int64. Unknown ids are ignored."""
        slots = np.unique(self.slots(ids))
        slots = slots[slots >= 0]
        slots = slots[self._alive[slots]]
        self._alive[slots] = False
        self._changed(len(slots))
        return slots

    def forget(self, ids: Sequence[str]) -> Slots:
        """Mark items as gone and no longer find them; returns the slots they had, int64. Unknown ids are ignored."""
        slots = self.slots(ids)
        slots = slots[slots >= 0]
        self.delete(ids)
        for item, hash_ in zip(self.ids(slots), self._hashes[slots].tolist(), strict=True):
            self._by_id.pop(item, None)
            self._by_hash.pop(hash_, None)
        return slots

    def slots(self, ids: Sequence[str]) -> Slots:
        """Slot of each id, int64 [n], -1 where unknown. Deleted items have theirs still."""
        return self._collect(map(self._by_id.get, ids, repeat(UNKNOWN)), len(ids))

    def slots_of_hashes(self, hashes: NDArray[np.uint64]) -> Slots:
        """Slot of each hash, int64 [n], -1 where unknown. Deleted items have theirs still."""
        return self._collect(map(self._by_hash.get, hashes.tolist(), repeat(UNKNOWN)), len(hashes))

    def ids(self, slots: Iterable[int]) -> list[str]:
        """Id of each slot. Raises IndexError for a slot not given out."""
        ids = self._ids
        listed = slots.tolist() if isinstance(slots, np.ndarray) else list(slots)
        if listed and min(listed) < 0:
            raise IndexError(f"slot is {min(listed)}, expected 0 to {len(self) - 1}")
        return [ids[slot] for slot in listed]

    def _append(self, item: str, hash_: int) -> None:
        slot = len(self._ids)
        self._ids.append(item)
        self.features.append(None)
        self._by_id[item] = self._by_hash[hash_] = slot
        self._hashes[slot] = hash_

    def _refuse_collisions(self, ids: Sequence[str], hashes: list[int]) -> None:
        new: dict[int, str] = {}
        for item, hash_ in zip(ids, hashes, strict=True):
            slot = self._by_hash.get(hash_)
            holder = self._ids[slot] if slot is not None else new.setdefault(hash_, item)
            if holder != item:
                raise ValueError(f"item ids {holder!r} and {item!r} have the same 64-bit hash; rename one of them")

    def _changed(self, count: int) -> None:
        if count:
            self.version += 1
            self._alive_slots = None

    @staticmethod
    def _collect(found: Iterable[int], count: int) -> Slots:
        return np.fromiter(found, dtype=np.int64, count=count)
