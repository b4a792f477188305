"""The interactions a learner may go back to: the newest ones, as an array ring, and each user's as a chain through it.

Numbers of events are absolute (the first ever is 0), so a number whose place has been taken is told by its age. NumPy
only; knows nothing about models, or about what the pieces are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from models.batches import Batch, InteractionLog
from models.config import Bool, Float32, Int64, UInt8

History = tuple[Int64, Int64, UInt8, Float32]
"""Items, times, actions and weights of a user's interactions, oldest first."""

NONE = -1
_TYPES: dict[str, Any] = {
    "users": np.int64,
    "items": np.int64,
    "times_ms": np.int64,
    "actions": np.uint8,
    "weights": np.float32,
    "worth": np.float32,
    "waits": np.bool_,
    "before": np.int64,  # number of the same user's interaction before this one
}
_BLANK = {"items": -2, "before": NONE}
"""What a forgotten interaction is; everything else of it is 0. An item of -2 is nobody's, one of -1 is unknown."""


class Exemplars:
    """The last ``capacity`` interactions.

    Attributes:
        capacity: interactions kept; about 38 bytes each, taken when they come.
        total: interactions ever added.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"Exemplars.capacity is {capacity}, expected at least 1")
        self.capacity, self.total = capacity, 0
        self._columns: dict[str, np.ndarray] = {name: np.zeros(1, type_) for name, type_ in _TYPES.items()}
        self._newest: dict[int, int] = {}

    @property
    def oldest(self) -> int:
        """Number of the oldest interaction that is still there."""
        return max(0, self.total - self.capacity)

    def add(self, log: InteractionLog) -> Int64:
        """Append interactions in order of arrival; their numbers."""
        for start in range(0, len(log), self.capacity):
            self._add(log.part(slice(start, start + self.capacity)))
        return np.arange(self.total - len(log), self.total)

    def items_at(self, numbers: Int64) -> Int64:
        """Items of these interactions; anything where a number is -1."""
        items: Int64 = self._at("items", numbers)
        return items

    def times_at(self, numbers: Int64) -> Int64:
        """Their times, ms; anything where a number is -1."""
        times: Int64 = self._at("times_ms", numbers)
        return times

    def newest(self, users: Int64) -> Int64:
        """[B] number of the last interaction of each user, -1 for users without any."""
        return np.array([self._newest.get(user, NONE) for user in users.tolist()], np.int64)

    def chains(self, ends: Int64, length: int) -> Int64:
        """[B, length] numbers of the ``length`` interactions of a user up to each end, newest first, padded with -1."""
        out = np.full((len(ends), length), NONE)
        # The loop goes as deep as the longest chain: it has only those rows in hand that go on, and no more steps.
        before, oldest, capacity = self._columns["before"], self.oldest, self.capacity
        rows = np.flatnonzero(ends >= oldest)
        at = ends[rows]
        for place in range(length):
            if not len(at):
                break
            out[rows, place] = at
            at = before[at % capacity]
            going = at >= oldest
            if not going.all():
                rows, at = rows[going], at[going]
        return out

    def items(self, numbers: Int64) -> Int64:
        """Their items; -1 where the number is -1, or the item unknown."""
        return np.where(numbers >= 0, np.maximum(self._at("items", numbers), NONE), NONE)

    def histories(self, users: Int64, length: int) -> list[History]:
        """Items, times, actions and weights of the last ``length`` interactions of each user, oldest first."""
        return [self._history(chain[chain >= 0][::-1]) for chain in self.chains(self.newest(users), length)]

    def batch(self, ends: Int64, length: int, tie_shuffle: float, random: np.random.Generator) -> Batch:
        """Pieces of up to ``length`` interactions up to each end, sorted by time, padded on the right.

        With probability ``tie_shuffle`` a piece is shuffled within equal times (see ``models.batches.iterate``).
        Every known item is a target, with its worth, but for a piece's first one unless it is the user's first.
        """
        numbers, lengths = self._pieces(ends, length)
        present = np.arange(numbers.shape[1]) < lengths[:, None]
        shuffled = random.random((len(ends), 1)) < tie_shuffle
        tie = np.where(shuffled, random.random(numbers.shape), np.arange(numbers.shape[1]))
        times = np.where(present, self._at("times_ms", numbers), np.iinfo(np.int64).max)
        firsts = self._firsts(numbers, lengths)
        return self._batch(np.take_along_axis(numbers, np.lexsort((tie, times), axis=1), axis=1), lengths, firsts)

    def pieces(self, ends: Int64, length: int) -> Batch:
        """Pieces of up to ``length`` interactions up to each end, oldest first; empty ones for -1."""
        numbers, lengths = self._pieces(ends, length)
        return self._batch(numbers, lengths, self._firsts(numbers, lengths) | (lengths == 0))

    def unfolding(self, since: int, before: int, pieces: int) -> Iterator[tuple[Int64, Batch]]:
        """The interactions from number ``since`` on as their users went through them, in order of arrival.

        Batches of ``pieces`` users, each with ``before`` older interactions; targets are the interactions that are
        asked for, unknown items too, and with each batch come their numbers in the order of its targets.
        """
        since = max(since, self.oldest)
        numbers = np.arange(since, self.total)
        users = self._at("users", numbers)
        known, many = np.unique(users[self._at("items", numbers) != _BLANK["items"]], return_counts=True)
        for part in np.split(order := np.argsort(many, kind="stable"), range(pieces, len(order), pieces)):
            if not len(part):
                continue
            found, lengths = self._pieces(self.newest(known[part]), before + int(many[part].max()))
            batch = self._batch(found, lengths, self._firsts(found, lengths))
            asked = (np.arange(found.shape[1]) < lengths[:, None]) & (found >= since)
            yield found[asked], replace(batch, targets=asked)

    def seen(self, numbers: Int64, length: int) -> tuple[Int64, Int64]:
        """What the user of each interaction had met before it, up to ``length`` back: flat pairs (place in numbers,
        item); unknown items are left out."""
        items = self.items(self.chains(numbers, length + 1)[:, 1:])
        row, place = np.nonzero(items >= 0)
        return row, items[row, place]

    def weigh(self, users: Int64, items: Int64, worth: Float32, length: int) -> None:
        """Set what the newest interaction of each (user, item) is worth as a target, looked for ``length`` back."""
        chain = self.chains(self.newest(users), length)
        same = (chain >= 0) & (self._at("items", chain) == items[:, None])
        found = same.any(axis=1)
        number = chain[found, same[found].argmax(axis=1)]
        self._columns["worth"][number % self.capacity] = worth[found]

    def wait(self, numbers: Int64) -> None:
        """What these interactions teach is told by their slates, when those close."""
        self._columns["waits"][numbers[numbers >= self.oldest] % self.capacity] = True

    def told(self, users: Int64, items: Int64, length: int) -> Bool:
        """[m] whether an interaction of each (user, item) of the last ``length`` waits; the newest does no more."""
        chain = self.chains(self.newest(users), length)
        same = (chain >= 0) & (self._at("items", chain) == items[:, None]) & self._at("waits", chain)
        waited: Bool = same.any(axis=1)
        number = chain[waited, same[waited].argmax(axis=1)]
        self._columns["waits"][number % self.capacity] = False
        return waited

    def forget(self, users: Int64) -> None:
        """Leave nothing of these users: their interactions stay as blanks, which are no targets."""
        at = self.newest(np.unique(users))
        for user in users.tolist():
            self._newest.pop(user, None)
        while (at := at[at >= self.oldest]).size:
            slot = at % self.capacity
            at = self._columns["before"][slot]
            for name, column in self._columns.items():
                column[slot] = _BLANK.get(name, 0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything but ``capacity`` and ``total``, for `restored`."""
        used = min(self.total, self.capacity)
        return {name: column[:used].copy() for name, column in self._columns.items()}

    @classmethod
    def restored(cls, capacity: int, total: int, arrays: dict[str, np.ndarray]) -> Exemplars:
        """What `arrays` was read from."""
        made = cls(capacity)
        made.total = total
        made._reserve(min(total, capacity))
        for name, array in arrays.items():
            made._columns[name][: len(array)] = array
        slots = np.arange(made.oldest, total) % capacity
        users, items = arrays["users"][slots], arrays["items"][slots]
        kept = items != _BLANK["items"]
        made._newest = dict(zip(users[kept].tolist(), np.arange(made.oldest, total)[kept].tolist(), strict=True))
        return made

    def _pieces(self, ends: Int64, length: int) -> tuple[Int64, Int64]:
        """[B, n] numbers of up to ``length`` interactions up to each end, oldest first, padded with -1 on the right;
        and [B] how many."""
        chain = self.chains(ends, length)
        lengths = (chain >= 0).sum(axis=1)
        place = np.arange(max(1, int(lengths.max(initial=0))))
        numbers = np.take_along_axis(chain, np.maximum(lengths[:, None] - 1 - place, 0), axis=1)
        return np.where(place < lengths[:, None], numbers, NONE), lengths

    def _firsts(self, numbers: Int64, lengths: Int64) -> Bool:
        """Whether each piece begins with its user's first interaction."""
        firsts: Bool = (lengths > 0) & (self._at("before", numbers[:, 0]) == NONE)
        return firsts

    def _batch(self, numbers: Int64, lengths: Int64, firsts: Bool) -> Batch:
        place = np.arange(numbers.shape[1])
        present = place < lengths[:, None]
        items = np.where(present, self.items(numbers), NONE)
        return Batch(
            items=items,
            times_ms=self._at("times_ms", numbers),
            actions=self._at("actions", numbers),
            weights=self._at("weights", numbers),
            lengths=lengths,
            firsts=firsts,
            targets=present & (items >= 0) & (firsts[:, None] | (place > 0)),
            worth=self._at("worth", numbers),
        )

    def _add(self, log: InteractionLog) -> None:
        """At most ``capacity`` interactions."""
        numbers = np.arange(self.total, self.total + len(log))
        slots = numbers % self.capacity
        self._reserve(min(self.total + len(log), self.capacity))
        overwritten = numbers - self.capacity
        for number, user in zip(overwritten.tolist(), self._columns["users"][slots].tolist(), strict=True):
            if number >= 0 and self._newest.get(user) == number:
                del self._newest[user]  # nothing of that user is left
        before = []
        for number, user in zip(numbers.tolist(), log.users.tolist(), strict=True):
            before.append(self._newest.get(user, NONE))
            self._newest[user] = number
        given = {name: getattr(log, name) for name in ("users", "items", "times_ms", "actions", "weights")}
        given |= {"worth": np.ones(len(log), np.float32), "waits": np.zeros(len(log), np.bool_)}
        given |= {"before": np.array(before, np.int64)}
        for name, values in given.items():
            self._columns[name][slots] = values
        self.total += len(log)

    def _reserve(self, rows: int) -> None:
        held = len(self._columns["users"])
        if rows > held:
            more = min(self.capacity, max(rows, 2 * held)) - held
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros(more, column.dtype)])

    def _history(self, numbers: Int64) -> History:
        names = ("items", "times_ms", "actions", "weights")
        items, times, actions, weights = (self._at(name, numbers) for name in names)
        return items, times, actions, weights

    def _at(self, name: str, numbers: Int64) -> Any:
        """A column at these numbers; anything where they are -1."""
        return self._columns[name][np.where(numbers >= 0, numbers % self.capacity, 0)]
