"""The arms that serve releases: weights frozen after the warm-up, or made again now and then, or trained all along.

All three play through the same service (served.py) and differ in one thing: when another release comes. A trainer is
whatever learns a log and gives releases. Knows nothing of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evaluation.prequential import Clock
from evaluation.served import Service, pipeline_config
from evaluation.stream import EventStream
from models.batches import InteractionLog
from models.config import Int64
from models.release import Release
from streams.contracts import ItemVector


class Trainer(Protocol):
    """What learns."""

    def learn(self, log: InteractionLog, items: int) -> None:
        """Take in new events, in order; ``items``: how many of the stream's items there are by now."""

    def release(self) -> Release:
        """What was learned so far."""


Fit = Callable[[InteractionLog, int], Trainer]
"""Trains on a log from scratch: events so far, and how many of the stream's items there are by now."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How every one of these arms serves.

    Attributes:
        vectors: all items of the stream, by row.
        k: length of a list.
        candidates: items retrieved to choose from.
        filter_seen: leave out what the user has met.
        users_at_once: largest number of users in a batch.
    """

    vectors: Sequence[ItemVector]
    k: int = 10
    candidates: int = 100
    filter_seen: bool = True
    users_at_once: int = 1024


class WarmStart:
    """What was trained on the warm-up: once for all arms, for they would all do the same."""

    def __init__(self, stream: EventStream, cut: int, fit: Fit) -> None:
        self.stream, self.cut, self.fit = stream, cut, fit
        self.clock = Clock()
        self._trainer: Trainer | None = None
        self._release: Release | None = None

    def release(self) -> Release:
        """As it was before anybody went on training."""
        if self._release is None:
            with self.clock("fit"):
                self._trainer = self.train(self.cut)
                self._release = self._trainer.release()
        return self._release

    def trainer(self) -> Trainer:
        """The trainer, for the one arm that goes on with it."""
        self.release()
        trainer, self._trainer = self._trainer, None
        if trainer is None:
            raise RuntimeError("the trainer of the warm-up has been taken")
        return trainer

    def train(self, end: int) -> Trainer:
        """Train on the events before ``end`` from scratch."""
        return self.fit(self.stream.log(0, end), self.stream.known_items(end))


class FrozenArm:
    """The weights of the warm-up; users' states go on."""

    def __init__(self, start: WarmStart, serving: Serving) -> None:
        self._start, self._serving = start, serving
        self._service: Service
        self.clock = Clock()
        self.releases = 0

    @property
    def facts(self) -> Mapping[str, Any]:
        """What there is to report of the arm."""
        return {"releases": self.releases, "fit_seconds": self._start.clock.seconds.get("fit", 0.0)}

    def warm_up(self) -> None:
        """Train, and fold the events before the test."""
        start, serving = self._start, self._serving
        release = start.release()
        config = pipeline_config(
            start.stream,
            release.config.history,
            k=serving.k,
            candidates=serving.candidates,
            filter_seen=serving.filter_seen,
            users_at_once=serving.users_at_once,
        )
        with self.clock("warm_up"):
            self._service = Service(start.stream, serving.vectors, config, release)
            self._service.warm_up(start.cut)

    def play(self, begin: int, end: int) -> Int64:
        """Serve a round, then learn from it."""
        with self.clock("serve"):
            lists = self._service.lists(begin, end, self._serving.k)
        with self.clock("learn"):
            release = self._next(begin, end)
        if release is not None:
            self.releases += 1
            with self.clock("load"):
                self._service.use(release)
        return lists

    def _next(self, begin: int, end: int) -> Release | None:
        """The release to serve from ``end`` on, None for the one before."""
        return None


class RetrainArm(FrozenArm):
    """Trained from scratch on everything so far, whenever another ``every`` events have come."""

    def __init__(self, start: WarmStart, serving: Serving, every: int) -> None:
        super().__init__(start, serving)
        if every < 1:
            raise ValueError(f"RetrainArm.every is {every}, expected at least 1 event")
        self._every = every

    def _next(self, begin: int, end: int) -> Release | None:
        since = self._start.cut
        due = (end - since) // self._every > (begin - since) // self._every
        if not due or end == len(self._start.stream):
            return None
        return self._start.train(end).release()


class OnlineArm(FrozenArm):
    """Trained on every round once it has been played; each round is served by the release of the one before."""

    def __init__(self, start: WarmStart, serving: Serving) -> None:
        super().__init__(start, serving)
        self._trainer: Trainer | None = None

    def _next(self, begin: int, end: int) -> Release | None:
        stream = self._start.stream
        if self._trainer is None:
            self._trainer = self._start.trainer()
        self._trainer.learn(stream.log(begin, end), stream.known_items(end))
        return self._trainer.release()
