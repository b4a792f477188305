"""Every event is a test before it is a lesson: arms play one stream, and what they recommended is judged.

Prequential evaluation (Gama, Sebastião and Rodrigues, On Evaluating Stream Learning Algorithms, 2013) over the whole
catalogue: before an event an arm lists its k best items, and what counts is where the event's item stands in the list.
An item that nobody has met, unless it was listed from the start, may be in no list: its event is a miss for every arm.
Knows nothing of how arms rank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from evaluation.stream import EventStream
from models.baselines import Baseline
from models.config import Int64

Progress = Callable[[int, int], None]
"""Events played so far, and all that there are."""
Sink = Callable[[int, Int64], None]
"""Number of the first event, and the lists [n, k] for it and those after it, items by row, −1 for nothing."""


class Clock:
    """Seconds by what they were spent on: of CPU, all threads of this process, and of the clock on the wall."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    def __call__(self, what: str) -> Clock:
        self._what, self._since = what, (time.process_time(), time.perf_counter())
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        spent = time.process_time() - self._since[0], time.perf_counter() - self._since[1]
        for seconds, more in zip((self.seconds, self.wall), spent, strict=True):
            seconds[self._what] = seconds.get(self._what, 0.0) + more


class Arm(Protocol):
    """A recommender under test. `clock` has its seconds, `facts` what it wants to have reported."""

    clock: Clock

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def warm_up(self) -> None:
        """Learn the events before the test, which are not scored."""

    def play(self, begin: int, end: int) -> Int64:
        """Return lists [end − begin, k] of item rows (−1: none), each as it stood before its event, and learn them."""


@dataclass(frozen=True, slots=True)
class Played:
    """How one arm did.

    Attributes:
        ranks: [test events] position of the event's item in the arm's list, from 1; 0 where it is not in it.
        clock: what it took; `warm_up` came before the test.
        facts: what the arm has to say.
    """

    ranks: Int64
    clock: Clock
    facts: Mapping[str, Any] = field(default_factory=dict)


def play(
    stream: EventStream,
    cut: int,
    arm: Arm,
    *,
    round_size: int = 256,
    progress: Progress = lambda done, total: None,
    sink: Sink = lambda first, lists: None,
) -> Played:
    """Play the events from ``cut`` on, in rounds: an arm may learn slowly, from whole rounds, between them.

    Raises:
        ValueError: the arm recommended an item that nobody had met, or one item twice.
    """
    arm.warm_up()
    progress(cut, len(stream))
    ranks = [np.empty(0, np.int64)]
    for begin in range(cut, len(stream), round_size):
        end = min(begin + round_size, len(stream))
        lists = arm.play(begin, end)
        check(stream, begin, lists)
        sink(begin, lists)
        ranks.append(ranks_of(lists, stream.items[begin:end]))
        progress(end, len(stream))
    return Played(np.concatenate(ranks), arm.clock, arm.facts)


def ranks_of(lists: Int64, items: Int64) -> Int64:
    """[n] place of each item in its list [n, k], from 1; 0 where it isn't in it."""
    found = lists == items[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1, 0)


def check(stream: EventStream, begin: int, lists: Int64) -> None:
    """Raise ValueError if one of the lists [n, k] for events from ``begin`` on has an unmet item, or an item twice."""
    known = stream.known_from[lists] < np.arange(begin, begin + len(lists))[:, None]
    early = (lists >= 0) & ~known
    if early.any():
        row, column = np.argwhere(early)[0].tolist()
        item = stream.item_ids[lists[row, column]]
        raise ValueError(f"event {begin + row}: item {item!r} was recommended before anybody had met it")
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row, column = np.argwhere(twice)[0].tolist()
        raise ValueError(f"event {begin + row}: item {stream.item_ids[ordered[row, column]]!r} was recommended twice")


class BaselineArm:
    """A baseline: it learns each event right after it was asked for it."""

    def __init__(
        self,
        stream: EventStream,
        cut: int,
        baseline: Baseline,
        *,
        k: int = 10,
        exclude_seen: bool = True,
        facts: Mapping[str, Any] | None = None,
        begin: int = 0,
    ) -> None:
        """begin: events before it are not learned."""
        self._stream, self._cut, self._begin = stream, cut, begin
        self._baseline, self._k, self._exclude_seen = baseline, k, exclude_seen
        self._rows = {item: row for row, item in enumerate(stream.item_ids)}
        self.facts = facts or {}
        self.clock = Clock()

    def warm_up(self) -> None:
        """Learn the events before the test."""
        with self.clock("warm_up"):
            for event in range(self._begin, self._cut):
                self._learn(event)

    def play(self, begin: int, end: int) -> Int64:
        """Rank, then learn, one event after the other."""
        lists = np.full((end - begin, self._k), -1, np.int64)
        for event in range(begin, end):
            user = self._stream.user_ids[self._stream.users[event]]
            with self.clock("rank"):
                ranked = self._baseline.rank(user, self._k, self._exclude_seen)
            lists[event - begin, : len(ranked)] = [self._rows[item] for item in ranked]
            with self.clock("learn"):
                self._learn(event)
        return lists

    def _learn(self, event: int) -> None:
        stream = self._stream
        user, item = stream.user_ids[stream.users[event]], stream.item_ids[stream.items[event]]
        self._baseline.learn_one(user, item, int(stream.times_ms[event]))
