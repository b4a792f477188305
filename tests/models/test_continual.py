"""What is released, refused and taken back, with a trainer whose every release is as good as a script says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.batches import InteractionLog
from models.config import Bool, EvolutionConfig, Float32, Int64
from models.continual import Cases, Continual, ContinualConfig, History, Step
from models.features import ItemFeatures
from models.gate import Float64, GateConfig
from models.release import Release
from models.shown import SlateLog
from tests.models.conftest import make_twins, random_features

ITEMS = 8
CONFIG = ContinualConfig(GateConfig(events=40), GateConfig(events=40), rounds=2, cases=16)
FIRST = make_twins(EvolutionConfig(dim=4, heads=1, window=2, hidden=4), ITEMS).release


@dataclass
class Scripted:
    """Release number n has the quality that the script says; `served_from` is what it went back to."""

    script: list[float]
    made: int = 0
    adopted: list[str] = field(default_factory=list)
    known: dict[int, int] = field(default_factory=dict)
    item_ids: tuple[str, ...] = FIRST.item_ids
    features: ItemFeatures = field(default_factory=lambda: random_features(ITEMS))

    text_encoder: str = "encoder"
    losses: list[float] = field(default_factory=list)

    def learn(self, log: InteractionLog, answers: Bool | None = None) -> float:
        for user, item in zip(log.users.tolist(), log.items.tolist(), strict=True):
            self.known[user] = item
        return self.losses.pop(0) if self.losses else 1.0

    def learn_shown(self, slates: SlateLog) -> None:
        raise NotImplementedError

    def histories(self, users: Int64) -> list[History]:
        items = [[self.known[user]] if user in self.known else [] for user in users.tolist()]
        return [
            (np.array(one, np.int64), np.zeros(len(one), np.int64), np.zeros(len(one), np.uint8), ones(len(one)))
            for one in items
        ]

    def release(self, facts: dict[str, Any]) -> Release:
        quality = self.script[min(self.made, len(self.script) - 1)]
        self.made += 1
        return replace(FIRST, facts=facts | {"quality": quality})

    def put_items(self, ids: Sequence[str], features: ItemFeatures) -> None:
        raise NotImplementedError

    def forget(self, users: Int64) -> None:
        raise NotImplementedError

    def weigh(self, users: Int64, items: Int64, weights: Float32) -> None:
        raise NotImplementedError

    def adopt(self, release: Release) -> None:
        self.adopted.append(release.id)

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "scripted.json").write_text(json.dumps([self.made, self.adopted, sorted(self.known.items())]))

    @classmethod
    def load(cls, script: list[float], directory: Path) -> Scripted:
        made, adopted, known = json.loads((directory / "scripted.json").read_text())
        return cls(script, made, adopted, dict(known))


def ones(count: int) -> Float32:
    return np.ones(count, np.float32)


class Judging:
    """Gains by quality, with noise of the cases: the same for every release. Keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[Cases] = []

    def __call__(self, release: Release) -> Any:
        def gains(cases: Cases) -> Float64:
            self.shown.append(cases)
            quality = release.facts.get("quality", 0.5)
            return quality + 0.1 * np.sin(np.arange(len(cases.targets)) + cases.targets)

        return gains


def round_of(number: int, users: int = 20, first: int = 0) -> InteractionLog:
    random = np.random.default_rng(number)
    return InteractionLog(
        np.arange(first, first + users),
        random.integers(0, ITEMS, users),
        np.full(users, number, np.int64),
        np.zeros(users, np.uint8),
        ones(users),
    )


def run(learning: Continual, begin: int, end: int) -> list[Step]:
    return [learning.learn(round_of(number)) for number in range(begin, end)]


def qualities(steps: list[Step]) -> list[float]:
    return [step.serve.facts.get("quality", 0.5) for step in steps if step.serve is not None]


def test_better_releases_are_given_out_one_after_the_other() -> None:
    learning = Continual(Scripted([0.6, 0.7, 0.8]), FIRST, Judging(), CONFIG)
    steps = run(learning, 0, 30)
    assert qualities(steps)[:3] == [0.6, 0.7, 0.8]
    assert (learning.refused, learning.taken_back) == (0, 0)


def test_a_release_that_is_worse_is_never_given_out() -> None:
    learning = Continual(Scripted([0.3, 0.6, 0.1]), FIRST, Judging(), CONFIG)
    steps = run(learning, 0, 40)
    assert qualities(steps) == [0.6]
    assert learning.served.facts["quality"] == 0.6
    assert learning.refused == sum(step.refused is not None for step in steps) >= 2


def test_a_candidate_waits_until_enough_events_have_judged_it() -> None:
    learning = Continual(Scripted([0.6]), FIRST, Judging(), CONFIG)
    given = [step.round for step in run(learning, 0, 10) if step.serve is not None]
    # Made after round 2; 16 cases a round are judged from the next one on, 40 are enough.
    assert given == [5]


def test_a_release_that_turns_out_worse_is_taken_back_and_the_trainer_goes_back_too() -> None:
    trainer, judging = Scripted([0.6, 0.6]), Judging()
    learning = Continual(trainer, FIRST, judging, CONFIG)
    steps = run(learning, 0, 5)
    given = learning.served
    assert given.facts["quality"] == 0.6
    given.facts["quality"] = 0.2  # the world has changed
    steps = run(learning, 5, 9)
    (back,) = [step for step in steps if step.serve is not None]
    assert back.taken_back is not None and back.serve is FIRST and learning.served is FIRST
    assert trainer.adopted == [FIRST.id]
    assert back.compared["difference"] == pytest.approx(-0.3, abs=0.01)


def test_cases_are_events_that_neither_release_has_learned() -> None:
    judging = Judging()
    learning = Continual(Scripted([0.6]), FIRST, judging, CONFIG)
    run(learning, 0, 5)
    # Release 1 was made after round 2; it is judged on rounds 3 to 5, each before the trainer learned it.
    assert len(judging.shown) == 6
    for number, cases in zip((2, 2, 3, 3, 4, 4), judging.shown, strict=True):
        asked, before = round_of(number), round_of(number - 1)
        assert len(cases.targets) == CONFIG.cases
        # The history is what was known before the round.
        pairs = set(zip(before.items.tolist(), asked.items.tolist(), strict=True))
        assert {(int(h[0][-1]), int(t)) for h, t in zip(cases.histories, cases.targets, strict=True)} <= pairs


def test_users_and_items_that_were_not_known_are_no_cases() -> None:
    judging = Judging()
    learning = Continual(Scripted([0.6]), FIRST, judging, CONFIG)
    run(learning, 0, 2)
    fresh = round_of(2, first=1_000)
    learning.learn(fresh)
    assert judging.shown == []
    unknown = round_of(3)
    unknown.items[:] = -1
    learning.learn(unknown)
    assert judging.shown == []


def test_weights_that_are_no_numbers_any_more_go_back_to_those_that_are_served() -> None:
    trainer = Scripted([0.6, 0.7], losses=[1.0, 1.0, 1.0, float("nan")])
    learning = Continual(trainer, FIRST, Judging(), CONFIG)
    steps = run(learning, 0, 9)
    # The candidate of round 2 was dropped in round 4, the next one is made two rounds later.
    assert trainer.adopted == [FIRST.id] and learning.recovered == 1
    assert [step.round for step in steps if step.serve is not None] == [9]


def test_an_empty_round_is_a_round() -> None:
    learning = Continual(Scripted([0.6]), FIRST, Judging(), CONFIG)
    assert learning.learn(round_of(0, users=0)).events == 0


@pytest.mark.parametrize("stop", range(1, 16))
def test_who_repeats_the_rounds_from_a_checkpoint_decides_the_same(stop: int, tmp_path: Path) -> None:
    script = [0.6, 0.3, 0.7, 0.2, 0.8]

    def said(steps: list[Step]) -> list[Any]:
        return [(s.round, s.serve and s.serve.id, s.taken_back, s.refused, s.compared) for s in steps]

    whole = Continual(Scripted(script), FIRST, Judging(), CONFIG)
    expected = said(run(whole, 0, 24))
    learning = Continual(Scripted(script), FIRST, Judging(), CONFIG)
    run(learning, 0, stop)
    learning.save(tmp_path / "checkpoint")
    again = Continual.load(tmp_path / "checkpoint", lambda path: Scripted.load(script, path), Judging(), CONFIG)
    assert said(run(again, stop, 24)) == expected[stop:]


def test_a_damaged_checkpoint_is_an_error(tmp_path: Path) -> None:
    Continual(Scripted([0.6]), FIRST, Judging(), CONFIG).save(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "continual.json").write_text("{}")
    with pytest.raises(ValueError, match="not a checkpoint"):
        Continual.load(tmp_path / "checkpoint", lambda path: Scripted([0.6]), Judging(), CONFIG)


@pytest.mark.parametrize("field", ["rounds", "cases"])
def test_a_config_that_makes_no_sense_names_the_field(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ContinualConfig(**{field: 0})  # type: ignore[arg-type]


def test_after_an_alarm_a_candidate_is_made_at_once() -> None:
    config = replace(CONFIG, rounds=50)
    made = []
    for alarmed in (False, True):
        trainer = Scripted([0.7])
        learning = Continual(trainer, FIRST, Judging(), config)
        run(learning, 0, 3)
        if alarmed:
            learning.alarm()
        run(learning, 3, 8)
        made.append(trainer.made)
        assert (learning.served is FIRST) != alarmed
    assert made[0] == 0 and made[1] >= 1


class Fickle(Judging):
    """From round `since` on the releases that were better are worse."""

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since, self.now = since, 0

    def __call__(self, release: Release) -> Any:
        gains = super().__call__(release)
        return lambda cases: gains(cases) if self.now < self.since else 1.0 - gains(cases)


@pytest.mark.parametrize("alarmed", [False, True])
def test_an_alarm_has_a_new_release_judged_again_and_taken_back(alarmed: bool) -> None:
    judging = Fickle(since=10)
    learning = Continual(Scripted([0.8]), FIRST, judging, replace(CONFIG, rounds=10))
    learning._since = 10
    learning._propose(1.0)
    run(learning, 0, 9)
    better = learning.served
    assert better is not FIRST and learning._previous is None  # judged to the end
    judging.now = 10
    if alarmed:
        learning.alarm()
    run(learning, 10, 13)
    assert (learning.served is FIRST) == alarmed
    assert learning.taken_back == alarmed


def test_an_alarm_changes_nothing_while_something_is_judged_and_goes_through_a_checkpoint(tmp_path: Path) -> None:
    script = [0.6, 0.7, 0.8, 0.2, 0.9]

    def alarmed(learning: Continual, begin: int, end: int) -> list[Step]:
        steps = []
        for number in range(begin, end):
            if number % 7 == 3:
                learning.alarm()
            steps.append(learning.learn(round_of(number)))
        return steps

    whole = Continual(Scripted(script), FIRST, Judging(), CONFIG)
    expected = alarmed(whole, 0, 40)
    part = Continual(Scripted(script), FIRST, Judging(), CONFIG)
    found = alarmed(part, 0, 12)
    for begin, end in ((12, 19), (19, 25), (25, 40)):
        part.save(tmp_path / str(begin))
        part = Continual.load(tmp_path / str(begin), lambda path: Scripted.load(script, path), Judging(), CONFIG)
        found += alarmed(part, begin, end)
    assert qualities(found) == qualities(expected)
    assert [step.taken_back for step in found] == [step.taken_back for step in expected]
