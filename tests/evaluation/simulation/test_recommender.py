"""driftline in a simulated world: the same code as in production, told of everything, and the same again."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from evaluation.simulation.arms import ARMS, NO_EXPLORATION, trainer_config
from evaluation.simulation.loop import run
from evaluation.simulation.recommender import Driftline, Setup
from evaluation.simulation.world import Environment, World, WorldConfig
from models.config import EvolutionConfig
from models.learner import TrainConfig
from policy.slate import PolicyConfig
from streams.contracts import Decision, Outcome
from streams.job import Effects
from streams.names import Topics

WORLD = WorldConfig(users=30, items=40, new_items=8, ticks=12, k=5, met=6)
MODEL = EvolutionConfig(dim=8, layers=2, heads=1, window=5, hidden=8)
TRAINER = trainer_config(training=TrainConfig(model=MODEL, epochs=1, mask_seen=False), steps=2)
POLICY = PolicyConfig(k=5, candidates=30)
SETUP = Setup(POLICY, TRAINER, round_ticks=4)


class Watched(Driftline):
    """Keeps what the pipeline said and what was shown."""

    def __init__(self, world: Environment, setup: Setup, seed: int) -> None:
        self.effects: list[Effects] = []
        self.shown: list[np.ndarray] = []
        super().__init__(world, setup, seed)

    def choose(self, users: np.ndarray) -> np.ndarray:
        if not self.effects:
            apply = self._pipeline.apply

            def kept(*arguments: object) -> Effects:
                self.effects.append(apply(*arguments))  # type: ignore[arg-type]
                return self.effects[-1]

            self._pipeline.apply = kept  # type: ignore[method-assign]
        self.shown.append(super().choose(users))
        return self.shown[-1]

    def said(self, topic: str, kind: type) -> list:
        told = [value for effects in self.effects for _, value, _ in effects.outputs.get(topic, ())]
        return [msgspec.json.decode(value, type=kind) for value in told if value is not None]


def played(setup: Setup = SETUP, config: WorldConfig = WORLD) -> Watched:
    world = World(config, 1)
    recommender = Watched(world, setup, 1)
    run(world, recommender, config.items)
    return recommender


def test_the_same_seed_shows_the_same_slates() -> None:
    one, other = played(), played()
    assert all(np.array_equal(a, b) for a, b in zip(one.shown, other.shown, strict=True))


def test_what_is_shown_is_what_was_decided_and_is_drawn_again() -> None:
    """An arm's slates are the pipeline's, recomputed here from its logged decisions."""
    from index.hashing import item_hash
    from policy.slate import redecide

    recommender = played()
    decisions = recommender.said(Topics().decisions, Decision)
    drawn = set()
    for decision in decisions:
        hashes = np.array([[0 if item is None else item_hash(item) for item in decision.candidates]], np.uint64)
        logits = np.frombuffer(decision.logits_f32, "<f4")[None]
        choice = redecide(POLICY, logits, hashes, decision.cause.partition, np.array([decision.cause.offset]))
        assert choice.chosen[0].tolist() == decision.chosen
        drawn.add(tuple(int((decision.candidates[column] or "")[1:]) for column in choice.chosen[0]))
    assert len(recommender.shown) == WORLD.ticks
    assert {tuple(slate) for slates in recommender.shown for slate in slates.tolist()} <= drawn


def test_every_click_is_in_an_outcome_and_in_a_round() -> None:
    """With nobody's window open at the end but the last slates': clicks are told once, to estimators and trainer."""
    world = World(replace(WORLD, ticks=40), 1)
    recommender = Watched(world, replace(SETUP, round_ticks=1), 1)
    found = run(world, recommender, WORLD.items)
    outcomes = recommender.said(Topics().outcomes, Outcome)
    told = sum(reward for outcome in outcomes for reward in outcome.rewards)
    assert 0 < found.clicks - told <= 3 * WORLD.users * WORLD.k  # those of slates that are still open
    assert recommender._estimators.outcomes == len(outcomes)
    last = sum(len(heard.clicked) for heard in recommender._heard.values())
    unread = sum(b'"interaction"' in record.value for record in recommender._events)
    assert recommender._trainer.events == found.clicks - last - unread
    assert all(outcome.shown for outcome in outcomes if any(outcome.rewards))


def test_weights_reach_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.online import OnlineTrainer

    weights: list[float] = []
    monkeypatch.setattr(OnlineTrainer, "weigh", lambda self, users, items, given: weights.extend(given.tolist()))
    eager = replace(WORLD, ticks=20, offset=0.0, away=2.0)
    told: dict[str, list[float]] = {}
    for weighed in ("none", "ips", "dr"):
        weights.clear()
        played(replace(SETUP, weighed=weighed, round_ticks=3), eager)
        told[weighed] = list(weights)
    assert not told["none"]
    assert len(told["ips"]) == len(told["dr"]) > 20
    assert min(told["ips"]) >= 1
    assert max(told["ips"]) > 1.2
    assert told["dr"] != told["ips"]


@pytest.mark.parametrize(("arm", "learns"), [("default", True), ("naive", False)])
def test_the_default_learns_from_what_was_shown_and_a_naive_arm_does_not(arm: str, learns: bool) -> None:
    setup = ARMS[arm].setup
    assert setup is not None
    blended = setup.trainer.blended
    recommender = played(replace(SETUP, trainer=replace(TRAINER, blended=blended), weighed=setup.weighed), WORLD)
    arrays = recommender._trainer.release().arrays
    assert ("counts.items.liked" in arrays) == learns
    if learns:
        assert arrays["counts.items.liked"].min() < 0 < arrays["counts.items.liked"].max()


def test_greedy_shows_the_best_in_order_and_a_high_temperature_does_not() -> None:
    same = []
    for setup in (
        replace(SETUP, policy=replace(POLICY, **NO_EXPLORATION, beta=0.0)),
        replace(SETUP, policy=replace(POLICY, temperature=1.0)),
    ):
        world = World(WORLD, 1)
        recommender = Driftline(world, setup, 1)
        users = world.begin()
        slates = recommender.choose(users)
        same.append((slates == recommender.ranked(users)).mean())
    assert same[0] > 0.85  # near ties may swap
    assert same[1] < 0.7


def test_items_that_come_are_shown_and_learned() -> None:
    world = World(replace(WORLD, ticks=40, new_items=40, offset=0.0, novelty=3.0), 1)
    recommender = Driftline(world, SETUP, 1)
    found = run(world, recommender, WORLD.items)
    assert found.cold_share > 0
    assert len(recommender._trainer.item_ids) > WORLD.items


@pytest.mark.parametrize("name", ["random", "popularity", "oracle"])
def test_references_show_distinct_items_and_the_oracle_is_best(name: str) -> None:
    world = World(WORLD, 1)
    arm = ARMS[name]
    found = run(world, arm.make(world, 1, None), WORLD.items)
    assert found.reward <= found.best + 1e-9
    assert (found.reward == pytest.approx(found.best)) == (name == "oracle")
