"""How good the published slates are, beside recommenders that count: every event is a test before it is a lesson.

Prequential evaluation (Gama, Sebastião and Rodrigues, On Evaluating Stream Learning Algorithms, 2013): at each live
interaction every ranker is asked for its ten best items, then the baselines learn the event. All rankers are
judged on the same events: those whose user's newest slate answers the event just before, so that a slate that came
late, or that answered several events at once, is not compared with baselines that know more. An item that is not in
the catalogue is a miss for everybody.

Slates and decisions may come before or after the event that they are judged by. Knows nothing of Kafka, nor of how a
slate came about; an event is known by its place in the log, (partition, offset).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.baselines import Baseline, LastItemTransitions, RecentPopularity, WindowedCoOccurrence

RANKERS = ("driftline", "greedy", "recent_popularity", "last_item", "co_occurrence")
"""The slate as published, the same candidates in order of their logits, and the baselines."""

Place = tuple[int, int]
"""Partition and offset of an event."""


@dataclass(frozen=True, slots=True)
class Score:
    """Means over `events` scored events, by ranker; NDCG with the one relevant item that an event names."""

    events: int
    hit_rate: dict[str, float]
    ndcg: dict[str, float]


class Tally:
    """Gains of scored events, summed over all of them or over the last `window`."""

    def __init__(self, window: int | None = None) -> None:
        self._window = window
        self._gains: deque[NDArray[np.float64]] = deque()
        self._sum = np.zeros((2, len(RANKERS)))
        self._events = 0

    def add(self, gains: NDArray[np.float64]) -> None:
        """Count one event: `gains` [2, rankers] are hit (0 or 1) and discounted gain."""
        self._sum += gains
        self._events += 1
        if self._window is not None:
            self._gains.append(gains)
            if self._events > self._window:
                self._sum -= self._gains.popleft()
                self._events -= 1

    @property
    def score(self) -> Score:
        hits, ndcg = (self._sum / max(self._events, 1)).tolist()
        return Score(self._events, dict(zip(RANKERS, hits, strict=True)), dict(zip(RANKERS, ndcg, strict=True)))


@dataclass(slots=True)
class _Asked:
    """A live event that waits for the slate of its user's event before. `tied`: both carry the same time."""

    item: str
    tied: bool
    counted: list[list[str]]  # each baseline's list


@dataclass(slots=True)
class _Answer:
    """What was published in answer to an event; `none` says why there is no slate for it alone."""

    slate: Sequence[str] | None = None
    greedy: Sequence[str] | None = None
    none: str | None = None

    @property
    def complete(self) -> bool:
        return self.none is not None or (self.slate is not None and self.greedy is not None)


class Scoreboard:
    """Scores of the rankers over a stream of interactions, given in the order of the log.

    `catalogue` are the known item ids; `k` positions count, and `recent` is over the last `window` scored events.
    """

    def __init__(self, catalogue: Container[str], k: int = 10, window: int = 1000) -> None:
        self._catalogue = catalogue
        self._k = k
        self._baselines: tuple[Baseline, ...] = (RecentPopularity(), LastItemTransitions(), WindowedCoOccurrence())
        self._before: dict[str, tuple[Place, int]] = {}  # a user's newest event and its time
        self._asked: dict[Place, _Asked | None] = {}  # by the event before; None: nobody asks
        self._answers: dict[Place, _Answer] = {}
        self._overall, self._recent, self._untied = Tally(), Tally(window), Tally()
        self.unscored: Counter[str] = Counter()

    @property
    def overall(self) -> Score:
        """Over all scored events."""
        return self._overall.score

    @property
    def recent(self) -> Score:
        """Over the last scored events."""
        return self._recent.score

    @property
    def untied(self) -> Score:
        """Over the scored events that are later than the user's event before: many data sets live off ties."""
        return self._untied.score

    @property
    def waiting(self) -> int:
        """Live events whose slate is not known yet."""
        return sum(asked is not None for asked in self._asked.values())

    def learn(self, place: Place, user: str, item: str, time: int) -> None:
        """Take in an event without scoring it; `time` in milliseconds."""
        previous = self._before.get(user)
        if previous is not None:
            self._ask(previous[0], None)
        self._learn(place, user, item, time)

    def event(self, place: Place, user: str, item: str, time: int) -> None:
        """Ask every ranker for `item`, then let the baselines learn it; `time` in milliseconds."""
        previous = self._before.get(user)
        if previous is None:
            self.unscored["first event of its user"] += 1
        else:
            counted = [baseline.rank(user, self._k, exclude_seen=True) for baseline in self._baselines]
            self._ask(previous[0], _Asked(item, previous[1] == time, counted))
        self._learn(place, user, item, time)

    def slate(self, partition: int, covers: Sequence[int], items: Sequence[str]) -> None:
        """A slate was published: `covers` are the offsets it answers, ascending, `items` in order of position."""
        for offset in covers[:-1]:
            self.unanswered((partition, offset), "answered together with a later one")
        self._answer((partition, covers[-1])).slate = items
        self._settle((partition, covers[-1]))

    def decision(
        self, partition: int, covers: Sequence[int], candidates: Sequence[str | None], logits: NDArray[np.float32]
    ) -> None:
        """The candidates (None: empty column) and logits that the slate covering `covers` was drawn from."""
        best = np.argsort(-logits, kind="stable")
        ranked = [candidates[column] for column in best.tolist()]
        self._answer((partition, covers[-1])).greedy = [item for item in ranked if item is not None][: self._k]
        self._settle((partition, covers[-1]))

    def unanswered(self, place: Place, why: str) -> None:
        """There will be no slate for the event at `place` alone; `why` names the count in `unscored`."""
        self._answer(place).none = why
        self._settle(place)

    def _learn(self, place: Place, user: str, item: str, time: int) -> None:
        self._before[user] = (place, time)
        for baseline in self._baselines:
            baseline.learn_one(user, item, time)

    def _ask(self, previous: Place, asked: _Asked | None) -> None:
        self._asked[previous] = asked
        self._settle(previous)

    def _answer(self, place: Place) -> _Answer:
        return self._answers.setdefault(place, _Answer())

    def _settle(self, place: Place) -> None:
        """Score the event after `place` once both it and the answer to `place` are known, and forget both."""
        answer = self._answers.get(place)
        if answer is None or not answer.complete or place not in self._asked:
            return
        del self._answers[place]
        asked = self._asked.pop(place)
        if asked is None:
            return
        if answer.none is not None:
            self.unscored[f"event before {answer.none}"] += 1
            return
        lists = [answer.slate or (), answer.greedy or (), *asked.counted]
        gains = np.array([self._gain(ranked, asked.item) for ranked in lists]).T
        self._overall.add(gains)
        self._recent.add(gains)
        if not asked.tied:
            self._untied.add(gains)

    def _gain(self, ranked: Sequence[str], item: str) -> tuple[float, float]:
        """Hit, and 1 / log2(1 + position)."""
        top = ranked[: self._k]
        if item not in top or item not in self._catalogue:
            return 0.0, 0.0
        return 1.0, 1 / math.log2(2 + top.index(item))
