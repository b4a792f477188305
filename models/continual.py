"""Learning that goes on while its releases are served: train in rounds, judge, release, and take back.

Each round's events are first a test, then a lesson. A candidate release is judged on the events of the rounds after it
was made, beside the one that is served; only one that passes is given out. What was given out goes on being judged,
beside the one before it, and is taken back when it turns out worse. Everything that is decided follows from the rounds
alone, so that whoever repeats them decides the same. Knows nothing of Kafka, topics or clocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.batches import InteractionLog
from models.config import Bool, Float32, Int64, UInt8
from models.features import ItemFeatures
from models.gate import Comparison, Float64, GateConfig
from models.release import Release
from models.shown import SlateLog

History = tuple[Int64, Int64, UInt8, Float32]
"""Items (rows), times, actions and weights of a user's last events, oldest first."""

STATE = "continual.json"
TRAINER, SERVED, PREVIOUS, CANDIDATE, LAST = "trainer", "served", "previous", "candidate", "last"
RECENT = 4
"""A release is new for so many times `ContinualConfig.rounds`: what drifts in that time may be its doing."""


class Trainer(Protocol):
    """What ``models.online.OnlineTrainer`` does; rows are places in ``item_ids``."""

    @property
    def item_ids(self) -> Sequence[str]: ...
    @property
    def features(self) -> ItemFeatures: ...
    @property
    def text_encoder(self) -> str: ...
    def learn(self, log: InteractionLog, answers: Bool | None = None) -> float: ...
    def learn_shown(self, slates: SlateLog) -> None: ...
    def histories(self, users: Int64) -> list[History]: ...
    def put_items(self, ids: Sequence[str], features: ItemFeatures) -> None: ...
    def forget(self, users: Int64) -> None: ...
    def weigh(self, users: Int64, items: Int64, weights: Float32) -> None: ...
    def release(self, facts: dict[str, Any]) -> Release: ...
    def adopt(self, release: Release) -> None: ...
    def save(self, directory: Path) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """n events to be foretold.

    Attributes:
        items, features: the items that there are, by row.
        histories: n, of the events' users before the event; none is empty.
        targets: [n] rows of what came.
    """

    items: Sequence[str]
    features: ItemFeatures
    histories: Sequence[History]
    targets: Int64


Judge = Callable[[Release], Callable[[Cases], Float64]]
"""From a release to what it gains, [n], on cases: it is made once a release and asked once a round."""


@dataclass(frozen=True, slots=True)
class ContinualConfig:
    """When to release, and how to judge.

    Attributes:
        gate: for candidates.
        watch: for what is served, beside the release before it.
        rounds: between two candidates, at least.
        cases: events of a round that are judged, at most: each costs a rebuild of a history for each release.
    """

    gate: GateConfig = field(default_factory=GateConfig)
    watch: GateConfig = field(default_factory=lambda: GateConfig(z=2.33, tolerance=0.2))
    rounds: int = 8
    cases: int = 128

    def __post_init__(self) -> None:
        for name in ("rounds", "cases"):
            if getattr(self, name) < 1:
                raise ValueError(f"ContinualConfig.{name} is {getattr(self, name)}, expected at least 1")


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a round.

    Attributes:
        round: its number, from 1.
        events: it had.
        loss: mean loss of its training steps.
        serve: the release that is to be served from now on; None: as before.
        taken_back: the release that ``serve`` takes the place of because it was worse.
        refused: the candidate that did not pass.
        compared: what decided, for people.
    """

    round: int
    events: int
    loss: float
    serve: Release | None = None
    taken_back: str | None = None
    refused: str | None = None
    compared: dict[str, float] = field(default_factory=dict)


class Continual:
    """A trainer, the release that is served, the one before it, and the candidate for the next."""

    def __init__(
        self, trainer: Trainer, served: Release, judge: Judge, config: ContinualConfig | None = None, *, seed: int = 0
    ) -> None:
        self.trainer, self.served = trainer, served
        self.config, self._judge, self._seed = config or ContinualConfig(), judge, seed
        self.round = 0
        self.refused = self.taken_back = self.recovered = 0
        self._since = 0  # rounds since the last candidate was made
        self._age = 0  # rounds since the served release was given out
        self._last: Release | None = None  # the one before it, once that is no longer watched
        self._previous: Release | None = None
        self._candidate: Release | None = None
        self._gate, self._watch = Comparison(self.config.gate), Comparison(self.config.watch)
        self._judges: dict[str, Callable[[Cases], Float64]] = {}

    def learn(self, log: InteractionLog, answers: Bool | None = None) -> Step:
        """One round: test, decide, train. ``log.items`` are rows of the trainer's items, -1 for unknown ones; `answers`
        [n]: which of the interactions answer a slate."""
        self.round += 1
        self._age += 1
        self._test(log)
        decided = self._decide()
        loss = self.trainer.learn(log, answers)
        self._since += 1
        if not math.isfinite(loss) and (log.items >= 0).any():  # NaN is also what a round without known items gives
            self._recover()
        # What is being watched is judged to the end first: a bad release must not be followed by its like.
        if self._candidate is None and self._previous is None and self._since >= self.config.rounds:
            self._propose(loss)
        return Step(self.round, len(log), loss, **decided)

    def alarm(self) -> None:
        """The world has changed, says who watches it: do not wait for the next candidate.

        With this round one is made, unless one is being judged. If what is served is new, that may be what has changed:
        it is judged once more beside the one before it, and taken back if that is better; the candidate comes after.
        """
        self._since = max(self._since, self.config.rounds)
        judging = self._candidate is not None or self._previous is not None
        if not judging and self._last is not None and self._age <= RECENT * self.config.rounds:
            self._previous, self._last = self._last, None
            self._watch = Comparison(self.config.watch)

    def _recover(self) -> None:
        """Weights that are no numbers any more go back to those that are served."""
        self.trainer.adopt(self.served)
        self.recovered += 1
        self._candidate, self._gate, self._since = None, Comparison(self.config.gate), 0

    # -- judging -----------------------------------------------------------------------------------

    def _test(self, log: InteractionLog) -> None:
        challenger = self._candidate or (self.served if self._previous is not None else None)
        champion = self.served if self._candidate is not None else self._previous
        if challenger is None or champion is None or not len(log):
            return
        cases = self._cases(log)
        if len(cases.targets):
            comparison = self._gate if self._candidate is not None else self._watch
            comparison.add(self._gains(challenger, cases), self._gains(champion, cases))

    def _cases(self, log: InteractionLog) -> Cases:
        """A sample of the round's first events of users known before, so that histories are those before the round."""
        _, first = np.unique(log.users, return_index=True)
        first = first[log.items[first] >= 0]
        histories = self.trainer.histories(log.users[first])
        known = [at for at, history in enumerate(histories) if len(history[0])]
        if len(known) > self.config.cases:
            random = np.random.default_rng((self._seed, self.round))
            known = sorted(random.choice(known, self.config.cases, replace=False).tolist())
        targets = log.items[first[known]] if known else np.empty(0, np.int64)
        return Cases(self.trainer.item_ids, self.trainer.features, [histories[at] for at in known], targets)

    def _gains(self, release: Release, cases: Cases) -> Float64:
        if release.id not in self._judges:
            keep = {held.id for held in (self.served, self._previous, self._candidate) if held is not None}
            self._judges = {id_: judge for id_, judge in self._judges.items() if id_ in keep}
            self._judges[release.id] = self._judge(release)
        return self._judges[release.id](cases)

    # -- deciding ----------------------------------------------------------------------------------

    def _decide(self) -> dict[str, Any]:
        if self._candidate is not None:
            return self._decide_candidate(self._candidate)
        if self._previous is not None:
            return self._decide_served(self._previous)
        return {}

    def _decide_candidate(self, candidate: Release) -> dict[str, Any]:
        verdict, compared = self._gate.verdict, _said(self._gate)
        if verdict == "open":
            return {}
        self._candidate, self._gate = None, Comparison(self.config.gate)
        if verdict == "worse":
            self.refused += 1
            return {"refused": candidate.id, "compared": compared}
        self._previous, self.served, self._last, self._age = self.served, candidate, None, 0
        self._watch = Comparison(self.config.watch)
        return {"serve": candidate, "compared": compared}

    def _decide_served(self, previous: Release) -> dict[str, Any]:
        verdict, compared = self._watch.verdict, _said(self._watch)
        if verdict == "open":
            return {}
        self._previous, self._watch = None, Comparison(self.config.watch)
        if verdict == "passed":
            self._last = previous
            return {}
        worse, self.served = self.served, previous
        self.taken_back += 1
        self.trainer.adopt(previous)
        self._since, self._age = 0, 0
        return {"serve": previous, "taken_back": worse.id, "compared": compared}

    def _propose(self, loss: float) -> None:
        self._candidate, self._since = self.trainer.release({"round": self.round, "loss": loss}), 0

    # -- checkpoints -------------------------------------------------------------------------------

    def save(self, directory: Path) -> None:
        """Write everything that ``load`` needs to go on as if nothing had happened."""
        self.trainer.save(directory / TRAINER)
        held = {SERVED: self.served, PREVIOUS: self._previous, CANDIDATE: self._candidate, LAST: self._last}
        names = {name: release.save(directory / name).name for name, release in held.items() if release is not None}
        state = {
            "releases": names,
            "round": self.round,
            "since": self._since,
            "age": self._age,
            "refused": self.refused,
            "taken_back": self.taken_back,
            "recovered": self.recovered,
            "gate": self._gate.state(),
            "watch": self._watch.state(),
            "seed": self._seed,
        }
        (directory / STATE).write_text(json.dumps(state))

    @classmethod
    def load(
        cls, directory: Path, trainer: Callable[[Path], Trainer], judge: Judge, config: ContinualConfig | None = None
    ) -> Continual:
        """Read what ``save`` wrote; ``trainer`` reads the part that is the trainer's.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged.
        """
        try:
            state = json.loads((directory / STATE).read_bytes())
            releases = {name: Release.load(directory / name / id_) for name, id_ in state["releases"].items()}
            learning = cls(trainer(directory / TRAINER), releases[SERVED], judge, config, seed=state["seed"])
            learning.round, learning._since = state["round"], state["since"]
            learning._age = state.get("age", 0)
            for name in ("refused", "taken_back", "recovered"):
                setattr(learning, name, state[name])
            learning._gate = Comparison.restored(learning.config.gate, state["gate"])
            learning._watch = Comparison.restored(learning.config.watch, state["watch"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{directory}: not a checkpoint that can be read: {error!r}") from error
        learning._previous, learning._candidate = releases.get(PREVIOUS), releases.get(CANDIDATE)
        learning._last = releases.get(LAST)
        return learning


def _said(comparison: Comparison) -> dict[str, float]:
    return {
        "events": comparison.events,
        "difference": round(comparison.difference, 5),
        "error": round(comparison.error, 5),
        "other": round(comparison.champion, 5),
    }
