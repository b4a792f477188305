"""How well future interest is told: a user is asked about at an event, and judged by what he did around a later time.

Test-then-train: whoever is asked about in a round is answered with the release of the round before; his state is as it
was after the event. What counts is what he did from half the horizon to twice it after the event; who did nothing then
is not asked about, nor is anybody again within a tenth of the horizon. Two things are judged against no change and a
trend line (interest_references.py):

- items: NDCG@10 of the items that came, among all known ones that he had not met (where seen items are left out);
- topics: log-likelihood of the topics of these items, in nats an item.

Intervals: paired bootstrap by user. Knows nothing of files or Kafka.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation import interest_references as references
from evaluation.bootstrap import Difference, differences
from evaluation.interest_references import Past
from evaluation.learning import Trainer
from evaluation.stream import EventStream
from models.baselines import Float64
from models.config import Float32, Int64
from models.features import ItemFeatures
from models.horizon import own_shares, shares
from models.serving import ServingModel

HOUR_MS = 3_600_000
HORIZONS = {"1h": HOUR_MS, "1d": 24 * HOUR_MS, "7d": 7 * 24 * HOUR_MS}

Truth = Callable[[int, int], Float32]

ARMS = ("horizon", "no change", "trend line")
MEASURES = ("items", "topics")
_APART = 10
_TUNED_ON = 300
_MEMORY = 5000
"""Everybody's topics are those of about so many last events."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Asked at an event: what will its user do around a later time?"""

    event: int
    came: Int64
    """[m] items that came, with repeats."""
    last: int
    """The last event that belongs to the answer."""


@dataclass(slots=True)
class Judged:
    """One horizon: by measure and arm, a value for each question; and whose question each was."""

    horizon: str
    users: list[int] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {measure: {arm: [] for arm in ARMS} for measure in MEASURES}
    )
    settings: dict[str, Any] = field(default_factory=dict)

    def means(self, measure: str) -> dict[str, float]:
        """Of each arm."""
        return {arm: float(np.mean(values)) for arm, values in self.values[measure].items()}

    def compared(self, measure: str, replicates: int = 1000) -> list[Difference]:
        """The horizon-aware vector with each of the references."""
        values = {arm: np.array(of) for arm, of in self.values[measure].items()}
        found = differences(values, np.array(self.users), replicates=replicates)
        return [one for one in found if one.a == ARMS[0]]


def questions(stream: EventStream, ahead_ms: int) -> list[Question]:
    """All that can be asked about one horizon, in the order of events."""
    order = np.argsort(stream.users, kind="stable")
    begins = np.flatnonzero(np.r_[True, np.diff(stream.users[order]) != 0])
    found = []
    for begin, end in zip(begins, [*begins[1:], len(order)], strict=True):
        events = order[begin:end]
        times = stream.times_ms[events]
        first = np.searchsorted(times, times + ahead_ms / 2, side="right")
        behind = np.searchsorted(times, times + 2 * ahead_ms, side="right")
        asked = -np.inf
        for at in np.flatnonzero(behind > first).tolist():
            tied = at + 1 < len(times) and times[at + 1] == times[at]
            if tied or times[at] - asked < ahead_ms / _APART:
                continue
            asked = times[at]
            came = events[first[at] : behind[at]]
            found.append(Question(int(events[at]), stream.items[came], int(came[-1])))
    return sorted(found, key=lambda question: question.event)


def judge(
    stream: EventStream,
    features: ItemFeatures,
    cut: int,
    trainer: Trainer,
    *,
    horizons: Mapping[str, int] = HORIZONS,
    every: int = 256,
    filter_seen: bool = True,
    truth: Truth | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Judged]:
    """Play the stream from ``cut`` on; ``trainer`` was warmed up on what is before, ``features`` are of its items.

    With ``truth``, which says what shares the topics really have for a user at a time (ms), forecasts of topics are
    judged against that instead of what came.
    """
    bench = _Bench(stream, features, trainer.release().space.vocabulary, filter_seen, truth)
    open_ = {name: questions(stream, ahead) for name, ahead in horizons.items()}
    judged = {name: Judged(name) for name in horizons}
    bench.use(ServingModel(trainer.release()))
    for name, ahead in horizons.items():
        before = [question for question in open_[name] if question.last < cut]
        judged[name].settings = bench.tune(before, ahead)
    for begin in range(cut, len(stream), every):
        end = min(len(stream), begin + every)
        for name, ahead in horizons.items():
            now = [question for question in open_[name] if begin <= question.event < end]
            bench.answer(now, ahead, judged[name])
        trainer.learn(stream.log(begin, end), stream.known_items(end))
        bench.use(ServingModel(trainer.release()))
        if progress is not None:
            progress(end - cut, len(stream) - cut)
    return list(judged.values())


class _Bench:
    """One release at a time, and what is known of the stream."""

    def __init__(
        self,
        stream: EventStream,
        features: ItemFeatures,
        vocabulary: Sequence[str],
        filter_seen: bool,
        truth: Truth | None,
    ) -> None:
        self._stream, self._features, self._filter_seen = stream, features, filter_seen
        self._truth = truth
        self._topics = topic_shares(features.categories, vocabulary)
        self._counted = np.zeros(len(vocabulary))
        self._counted_to = 0
        order = np.argsort(stream.users, kind="stable")
        self._of_user = dict(
            zip(
                np.unique(stream.users).tolist(),
                np.split(order, np.flatnonzero(np.diff(stream.users[order])) + 1),
                strict=True,
            )
        )

    def use(self, model: ServingModel) -> None:
        """Answer with this release from now on."""
        self._model = model
        self._vectors = model.project(self._stream.item_ids, self._features)

    def tune(self, asked: Sequence[Question], ahead: int) -> dict[str, Any]:
        """Settings of the references, from questions whose answers are known; of many, a part evenly spread."""
        asked = asked[:: 1 + len(asked) // _TUNED_ON]
        if not asked:
            return {"no_change": (0.98, 30.0), "trend_line": (1.0, 50, 30.0), "step": 0.5}
        pasts = [self._past(question) for question in asked]
        self._counted, self._counted_to = np.zeros_like(self._counted), 0
        came = [self._came(question, ahead) for question in asked]
        share, line = references.tuned(pasts, came, ahead)
        scores = {
            step: sum(self._ndcg(self._trend(question, ahead, step), question) for question in asked)
            for step in references.STEPS
        }
        return {"no_change": share, "trend_line": line, "step": max(scores, key=lambda step: scores[step])}

    def answer(self, asked: Sequence[Question], ahead: int, judged: Judged) -> None:
        """Answer and judge."""
        for question in asked:
            past, came = self._past(question), self._came(question, ahead)
            hidden, now = self._hidden(self._before(question.event)), self._stream.times_ms[[question.event]]
            later = self._model.future_vectors(hidden, now, np.array([ahead]))[0]
            ndcg, topics = judged.values["items"], judged.values["topics"]
            ndcg["horizon"].append(self._ndcg(later, question))
            ndcg["no change"].append(self._ndcg(self._model.user_vectors(hidden)[0], question))
            ndcg["trend line"].append(self._ndcg(self._trend(question, ahead, judged.settings["step"]), question))
            forecast = self._forecast(later, past, question, ahead)
            topics["horizon"].append(references.likelihood(forecast, came))
            still = references.no_change(past, *judged.settings["no_change"])
            topics["no change"].append(references.likelihood(still, came))
            line = references.trend_line(past, ahead, *judged.settings["trend_line"])
            topics["trend line"].append(references.likelihood(line, came))
            judged.users.append(int(self._stream.users[question.event]))

    # -- what was known ----------------------------------------------------------------------------

    def _before(self, event: int) -> Int64:
        """The user's events up to this one."""
        own = self._of_user[int(self._stream.users[event])]
        events: Int64 = own[: np.searchsorted(own, event, side="right")]
        return events

    def _past(self, question: Question) -> Past:
        events = self._before(question.event)[-self._model.config.history :]
        shares_ = self._topics[self._stream.items[events]]
        return Past(shares_, self._stream.times_ms[events], self._everybody(question.event))

    def _came(self, question: Question, ahead: int) -> Float32:
        if self._truth is not None:
            event = question.event
            return self._truth(int(self._stream.users[event]), int(self._stream.times_ms[event]) + ahead)
        came: Float32 = self._topics[question.came].mean(axis=0)
        return came

    def _everybody(self, event: int) -> Float64:
        """Topics of the events up to this one; events asked for must not go back by more than a round."""
        if event + 1 > self._counted_to:
            new = self._stream.items[self._counted_to : event + 1]
            keep = np.exp(-1 / _MEMORY)
            age = np.arange(len(new) - 1, -1, -1)
            self._counted = self._counted * keep ** len(new) + (keep**age) @ self._topics[new]
            self._counted_to = event + 1
        found: Float64 = self._counted / max(self._counted.sum(), 1e-9)
        return found

    # -- vectors and scores --------------------------------------------------------------------------

    def _hidden(self, events: Int64) -> Float32:
        """[1, d] the state after these events of one user."""
        stream = self._stream
        return self._model.rebuild(
            self._model.new_cache(1),
            np.array([0]),
            [self._vectors.input[stream.items[events]]],
            [stream.times_ms[events]],
            [stream.actions[events]],
            [stream.weights[events]],
        )

    def _trend(self, question: Question, ahead: int, step: float) -> Float32:
        """[d + 1] the vector carried on as it moved during the last horizon."""
        events = self._before(question.event)
        times = self._stream.times_ms[events]
        back = max(1, int(np.searchsorted(times, times[-1] - ahead, side="right")))
        now, then = (self._model.user_vectors(self._hidden(part))[0] for part in (events, events[:back]))
        moved = now + np.float32(step) * (now - then)
        length = float(np.linalg.norm(now[:-1])) / max(float(np.linalg.norm(moved[:-1])), 1e-9)
        out: Float32 = moved * np.float32(length)
        out[-1] = 1
        return out

    def _logits(self, vector: Float32, question: Question) -> Float32:
        logits: Float32 = self._vectors.search @ vector
        logits[self._stream.known_from > question.event] = -np.inf
        if self._filter_seen:
            logits[self._stream.items[self._before(question.event)]] = -np.inf
        return logits

    def _ndcg(self, vector: Float32, question: Question, k: int = 10) -> float:
        logits = self._logits(vector, question)
        top = np.argsort(-logits, kind="stable")[:k]
        came = np.unique(question.came)
        gain = np.isin(top, came) / np.log2(np.arange(2, len(top) + 2))
        return float(gain.sum() / (1 / np.log2(np.arange(2, min(k, len(came)) + 2))).sum())

    def _forecast(self, vector: Float32, past: Past, question: Question, ahead: int) -> Float32:
        """[t] the release's own forecast of topics."""
        logits = self._logits(vector, question)
        chances = np.exp(logits - logits.max())
        items = (chances / chances.sum()) @ self._topics
        head = self._model.horizon
        if head is None:
            raise ValueError(f"release {self._model.release_id} has no head for later times")
        present = np.ones((1, len(past.shares)), bool)
        own = own_shares(past.shares[None], present, head.everybody)
        forecast: Float32 = head.topics(items[None], own, np.array([ahead]))[0]
        return forecast


def topic_shares(categories: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> Float32:
    """[n, t] topics of items: which of the vocabulary each is of, sharing 1."""
    column = {name: at for at, name in enumerate(vocabulary)}
    members = np.zeros((len(categories), len(vocabulary)), np.float32)
    for row, names in enumerate(categories):
        members[row, [column[name] for name in names if name in column]] = 1
    return shares(members)
