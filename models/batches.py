"""A log of interactions, cut into padded batches of histories. NumPy only; knows nothing about models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.config import Bool, Float32, Int64, UInt8


@dataclass(frozen=True, slots=True, eq=False)
class InteractionLog:
    """n interactions in order of arrival.

    Attributes:
        users: [n] codes, any integers.
        items: [n] rows of an item list, -1 for an item that is not in it.
        times_ms: [n] UTC.
        actions: [n] codes.
        weights: [n] strengths, 1 for an ordinary interaction.

    Raises:
        ValueError: the arrays differ in length, or an item is below -1.
    """

    users: Int64
    items: Int64
    times_ms: Int64
    actions: UInt8
    weights: Float32

    def __post_init__(self) -> None:
        sizes = [len(a) for a in (self.users, self.items, self.times_ms, self.actions, self.weights)]
        if len(set(sizes)) != 1:
            raise ValueError(f"InteractionLog users, items, times, actions, weights hold {sizes}, expected equal")
        if len(self.items) and self.items.min() < -1:
            raise ValueError(f"InteractionLog.items holds {self.items.min()}, expected rows or -1")

    def __len__(self) -> int:
        return len(self.users)

    def part(self, which: slice | Int64) -> InteractionLog:
        """Some of the interactions."""
        return InteractionLog(
            self.users[which], self.items[which], self.times_ms[which], self.actions[which], self.weights[which]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B pieces of histories, padded on the right to n events.

    Attributes:
        items: [B, n] rows, -1 for unknown items and padding.
        times_ms, actions, weights: [B, n].
        lengths: [B] events of each piece.
        firsts: [B] whether a piece starts with the user's first event.
        targets: [B, n] which events are to be predicted from those before them.
        worth: [B, n] what each counts as a target, 1 ordinarily.
    """

    items: Int64
    times_ms: Int64
    actions: UInt8
    weights: Float32
    lengths: Int64
    firsts: Bool
    targets: Bool
    worth: Float32


def iterate(
    log: InteractionLog, length: int, batch_size: int, tie_shuffle: float, random: np.random.Generator
) -> Iterator[Batch]:
    """One epoch of batches in random order.

    Histories longer than ``length`` are cut at random places into pieces that share one event, so that every
    event but unknown items is a target once. With probability ``tie_shuffle`` a user's events are shuffled
    within equal timestamps: their order there is an accident of the source, and learning it is overfitting.
    """
    order, starts = _by_user(log, tie_shuffle, random)
    pieces = [piece for begin, end in pairwise(starts) for piece in _cut(begin, end, length, random)]
    random.shuffle(pieces)
    for at in range(0, len(pieces), batch_size):
        yield _pad(log, order, pieces[at : at + batch_size])


def _by_user(log: InteractionLog, tie_shuffle: float, random: np.random.Generator) -> tuple[Int64, list[int]]:
    """Events sorted by (user, time), and where each user's begin, with the end."""
    _, codes = np.unique(log.users, return_inverse=True)
    shuffled = random.random(codes.max() + 1) < tie_shuffle
    tie = np.where(shuffled[codes], random.random(len(log)), np.arange(len(log)))
    order = np.lexsort((tie, log.times_ms, codes))
    changes = np.flatnonzero(np.diff(codes[order])) + 1
    return order, [0, *changes.tolist(), len(log)]


def _cut(begin: int, end: int, length: int, random: np.random.Generator) -> list[tuple[int, int, bool]]:
    """Pieces (begin, end, first) of the events begin..end of one user."""
    first = min(end, begin + (length if end - begin <= length else int(random.integers(2, length + 1))))
    pieces = [(begin, first, True)]
    for start in range(first - 1, end - 1, length - 1):
        pieces.append((start, min(end, start + length), False))
    return pieces


def _pad(log: InteractionLog, order: Int64, pieces: list[tuple[int, int, bool]]) -> Batch:
    lengths = np.array([end - begin for begin, end, _ in pieces])
    firsts = np.array([first for _, _, first in pieces])
    place = np.arange(lengths.max())
    present = place < lengths[:, None]
    begins = np.array([begin for begin, _, _ in pieces])
    event = order[np.minimum(begins[:, None] + place, len(order) - 1)]
    items = np.where(present, log.items[event], -1)
    return Batch(
        items=items,
        times_ms=log.times_ms[event],
        actions=log.actions[event],
        weights=log.weights[event],
        lengths=lengths,
        firsts=firsts,
        targets=present & (items >= 0) & (firsts[:, None] | (place > 0)),
        worth=np.ones(items.shape, np.float32),
    )
