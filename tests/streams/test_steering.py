"""Fairness in the pipeline: which candidates get a term, what decisions and outcomes say of it, what is learned."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from evaluation.replay_adjusting import recorded
from policy.fairness import FairnessConfig
from policy.group_rates import PAIR_SUMS, GroupRates
from streams.adjuster import Adjuster
from streams.adjusting import Adjusted, Scene
from streams.contracts import EstimatorSnapshot, Request
from streams.estimator_fairness import FairnessPart
from streams.estimators import Estimators
from streams.pipeline import Pipeline
from streams.steering import TERM, item_groups, with_fairness
from streams.world import World
from tests import small
from tests.small import START, record
from tests.streams.test_pipeline import Bench, numbers

CONFIG = FairnessConfig({"fight": ["war"], "feel": ["love", "ghost"]}, users=("f", "m"), holdout=0.25, bound=0.8)


def adjust(scene: Scene, config: FairnessConfig = CONFIG) -> Adjusted:
    return with_fairness(Adjusted(scene.slots), scene, config)


class FairBench(Bench):
    def __init__(self, config: FairnessConfig = CONFIG, world: World | None = None, **policy: object) -> None:
        super().__init__(world, **policy)
        self.made: list[Adjusted] = []
        self.scenes: list[Scene] = []

        bench = self

        class Kept(Adjuster):
            def adjust(self, scene: Scene) -> Adjusted:
                bench.scenes.append(scene)
                bench.made.append(adjust(scene, config))
                return bench.made[-1]

        made = small.config(**policy)
        self.pipeline = Pipeline(made, lambda: self.world, clock=lambda: START + 10**6, adjuster=Kept())
        self.pipeline.assigned(0, self.states)


def unfair() -> EstimatorSnapshot:
    """Estimates by which users of group f saw nothing that feels, though they like it as much as the rest."""
    rates = GroupRates()
    rates.users, rates.items = ["f"], ["fight", "feel"]
    sums = {"exposure": [9000, 0], "weight": [9000, 9000], "squares": [9000, 9000], "worth": [900, 900]}
    rates.pairs = np.array([[sums.get(name, [9e4, 9e4])] for name in PAIR_SUMS], np.float64)
    rates.slates = np.array([5000.0])
    estimators = Estimators({"fairness": FairnessPart(rates)})
    return estimators.snapshot({0: 0}, START)


def told(world: World) -> World:
    snapshot = unfair()
    world.estimate(snapshot, Estimators.from_snapshot(snapshot).frequency)
    return world


def genre(item: str | None) -> str:
    return "" if item is None else small.GENRES[int(item[1:]) % len(small.GENRES)]


def asked(bench: Bench, count: int = 24, groups: tuple[str | None, ...] = ("f", "m", None)) -> None:
    given = [record(at, Request(f"u{at}", START, group=groups[at % len(groups)])) for at in range(count)]
    for first in range(0, count, 48):
        bench.send(*given[first : first + 48])


def test_the_pairs_that_are_behind_get_a_term_and_others_none() -> None:
    bench = FairBench(world=told(small.world()))
    asked(bench)
    for at, decision in enumerate(bench.decisions):
        term = numbers(decision.adjustments[TERM])
        feel, fight = decision.groups["feel"], decision.groups["fight"]
        assert {genre(decision.candidates[column]) for column in feel} <= {"love", "ghost"}
        assert {genre(decision.candidates[column]) for column in fight} <= {"war"}
        assert sum(genre(item) in ("love", "ghost", "war") for item in decision.candidates) == len(feel) + len(fight)
        if decision.steered and at % 3 == 0:
            assert set(term[feel].tolist()) == {np.float32(0.8)}
            assert set(term[fight].tolist()) <= {np.float32(-0.8)}
            term = np.delete(term, feel + fight)
        assert not term.any()


def test_decisions_say_who_was_steered_and_the_rest_was_left_alone_by_chance() -> None:
    bench = FairBench(world=told(small.world()))
    asked(bench, 240)
    said = [decision.steered for decision in bench.decisions]
    assert said[2::3] == [None] * 80  # of no group
    known = [one for at, one in enumerate(said) if at % 3 < 2]
    assert 0.15 < known.count(False) / len(known) < 0.35
    again = FairBench(world=told(small.world()))
    asked(again, 240)
    assert [decision.steered for decision in again.decisions] == said


def test_the_term_changes_what_is_shown() -> None:
    shares = []
    for world in (small.world(), told(small.world())):
        config = FairnessConfig({"fight": ["ghost"], "feel": ["love"]}, ("f",), bound=3.0, holdout=0.0)
        bench = FairBench(config, world, epsilon=0.0)
        asked(bench, 48, ("f",))
        items = [genre(item) for slate in bench.slates for item in slate.items]
        shares.append(items.count("love") / len(items))
    assert shares[1] > shares[0] + 0.2


def test_outcomes_say_what_the_learner_needs() -> None:
    bench = FairBench()
    asked(bench)
    bench.send(record(24, Request("late", START + 61_000)))
    decisions = {decision.slate: decision for decision in bench.decisions}
    assert len(bench.outcomes) == 24
    for outcome in bench.outcomes:
        decision = decisions[outcome.slate]
        assert outcome.steered == decision.steered
        assert outcome.group_candidates == {name: len(columns) for name, columns in decision.groups.items()}
        group = {"war": "fight", "love": "feel", "ghost": "feel"}
        assert outcome.item_groups == [group.get(genre(item)) for item in outcome.items]
    estimators = Estimators()
    for outcome in bench.outcomes:
        estimators.learn(outcome)
    assert sorted(estimators.part(FairnessPart).rates.users) == ["f", "m"]


def test_without_groups_nothing_is_said_of_them() -> None:
    bench = Bench()
    asked(bench)
    (decision,) = {(tuple(one.groups), one.steered, TERM in one.adjustments) for one in bench.decisions}
    assert decision == ((), None, False)


def test_a_replay_takes_groups_and_term_from_the_record() -> None:
    bench = FairBench(world=told(small.world()))
    asked(bench)
    (scene,), (made,) = bench.scenes, bench.made
    found = recorded(scene, {decision.cause.offset: decision for decision in bench.decisions})
    assert made.grouping is not None
    assert found.grouping is not None
    np.testing.assert_array_equal(found.adjustments[TERM], made.adjustments[TERM])
    for row in range(len(scene.offsets)):
        assert found.grouping.columns(row) == made.grouping.columns(row)
    assert list(found.grouping.steered) == list(made.grouping.steered)


def test_groups_follow_the_catalogue() -> None:
    world = small.world()
    slots = world.catalogue.slots(["i0", "i1", "i2", "i3"])
    groups = item_groups(CONFIG, world.categories, np.append(slots, -1)).tolist()
    names = [genre(f"i{at}") for at in range(4)]
    assert groups == [{"war": 0, "love": 1, "ghost": 1}.get(name, -1) for name in names] + [-1]


def test_estimates_that_do_not_fit_are_refused_before_a_batch_needs_them() -> None:
    world, snapshot = small.world(), unfair()
    assert snapshot.fairness is not None
    broken = replace(snapshot, fairness=replace(snapshot.fairness, slates_f64=b""))
    with pytest.raises(ValueError, match="slates"):
        world.estimate(broken, Estimators().frequency)
