"""What clicks in outcomes teach, drift that is told and acted upon, and all of it across a snapshot."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from bench.clicks import SEGMENTS, World
from policy.drift import DriftConfig, DriftWatch
from streams.contracts import EstimatorSnapshot, Outcome, encode
from streams.estimator_clicks import ClicksPart, DriftPart
from streams.estimator_parts import SEGMENT_EDGES, Seen
from streams.estimators import Estimators
from tests import small
from tests.streams.outcomes import slates

EVENTS = dict(zip(SEGMENTS, (0, *SEGMENT_EDGES), strict=True))


def outcomes(world: World, count: int) -> list[Outcome]:
    shown, found = world.show(count), []
    for at in range(count):
        items = [f"i{item}" for item in shown.items[at].tolist()]
        pair = shown.swapped[at].tolist()
        found.append(
            replace(
                small.outcome(items),
                rewards=shown.clicks[at].astype(float).tolist(),
                history=EVENTS[SEGMENTS[shown.segment[at]]],
                uniform=bool(shown.uniform[at]),
                swapped=pair if pair[0] >= 0 else [],
            )
        )
    return found


def learned(given: list[Outcome], estimators: Estimators | None = None) -> Estimators:
    estimators = estimators or Estimators()
    for outcome in given:
        estimators.learn(outcome)
    return estimators


def through_the_wire(estimators: Estimators) -> Estimators:
    snapshot = msgspec.json.decode(encode(estimators.snapshot({0: 7}, 1)), type=EstimatorSnapshot)
    return Estimators.from_snapshot(snapshot, estimators.audit.pack())


def test_a_snapshot_goes_on_where_it_was_taken():
    given = outcomes(World(1, swaps=0.2), 60)
    whole, parts = learned(given), Estimators()
    for number, outcome in enumerate(given):
        if number in (0, 1, 30):
            parts = through_the_wire(parts)
        parts.learn(outcome)
    assert parts.snapshot({0: 7}, 1) == whole.snapshot({0: 7}, 1)
    assert whole.part(ClicksPart).outcomes == 60


def test_a_snapshot_of_an_older_driftline_begins_these_anew():
    old = replace(learned(outcomes(World(1), 5)).snapshot({}, 0), clicks=None, drift=None)
    restored = Estimators.from_snapshot(old)
    assert restored.outcomes == 5
    assert restored.part(ClicksPart).outcomes == 0


def test_examination_is_learned_from_outcomes():
    estimators = learned(outcomes(World(2), 1500))
    learned_curve = estimators.part(ClicksPart).examination.predict()[:10]
    assert np.abs(learned_curve - 1 / np.arange(1, 11)).max() < 0.08


def test_exchanged_and_random_slates_reach_the_check():
    given = outcomes(World(2, swaps=0.5, epsilon=0.3), 500)
    shown = learned(given).part(ClicksPart).swaps.state()
    intended, at = np.divmod(np.array(shown["cell"]), 100)
    off_diagonal = (intended != at) & (intended < 100)
    assert off_diagonal.sum() > 80
    assert (intended == 100).sum() == 10


def test_slates_of_other_systems_and_empty_ones_teach_nothing():
    one = outcomes(World(2), 1)[0]
    part = learned([replace(one, origin="external"), replace(one, items=[], rewards=[])]).part(ClicksPart)
    assert part.outcomes == 0


def test_a_contradiction_between_swaps_and_what_was_learned_is_said():
    """Two positions of ten are looked at as the first is, and η is held at something else."""
    part = ClicksPart()
    world = World(3, swaps=0.5, epsilon=0.2)
    part.examination.learn = lambda *_: None  # type: ignore[method-assign]
    part.examination._clicks[:, :10] = part.examination._expected[:, :10] = 1e4  # η = 1 at each
    estimators = Estimators({"clicks": part})
    learned(outcomes(world, 4000), estimators)
    assert {7, 8, 9} <= {*part.disagree}
    assert through_the_wire(estimators).part(ClicksPart).disagree == part.disagree


def test_a_drift_is_told_counted_and_acted_upon():
    watch = DriftPart(DriftWatch(DriftConfig(warm_up=300)))
    estimators, world = Estimators({"drift": watch}), World(4)
    quickened = []
    clicks = estimators.part(ClicksPart)
    quicken = clicks.quicken
    clicks.quicken = lambda factor: (quickened.append(factor), quicken(factor))[1]  # type: ignore[method-assign]
    assert [alarm for outcome in outcomes(world, 1000) for alarm in estimators.learn(outcome)] == []
    world.examination = np.ones(10)
    told = [alarm for outcome in outcomes(world, 400) for alarm in estimators.learn(outcome)]
    assert told[0].signal.startswith("position") and told[0].up
    assert quickened == [8.0]
    snapshot = estimators.snapshot({}, 0)
    assert snapshot.drift is not None
    assert sum(snapshot.drift.alarms.values()) == len(told)


def test_worth_is_the_pseudo_reward_of_what_was_shown():
    part = learned(outcomes(World(5), 300)).part(ClicksPart)
    outcome = outcomes(World(6), 1)[0]
    frequency = Estimators().frequency
    assert part.worth(Seen.of(outcome, frequency)) is None
    rewards = [1.0, 0.0, 0.0, 0.0, 2.0] + [0.0] * 5
    told = part.worth(Seen.of(replace(outcome, inclusion=[0.5] * 10, rewards=rewards), frequency))
    assert told is not None
    assert told.clicks.tolist() == [reward > 0 for reward in rewards]
    assert told.pseudo_reward[4] > told.pseudo_reward[0] > 1 > told.pseudo_reward[1]


def test_another_popularity_is_seen_in_the_exposure_of_favourites_and_others():
    estimators, signals = Estimators({"drift": DriftPart(DriftWatch(DriftConfig(warm_up=800)))}), []
    for number, (outcome, _, _) in enumerate(slates(1600, seed=3, flip=1200)):
        signals += [(number, alarm.signal, alarm.up) for alarm in estimators.learn(outcome)]
    assert signals and all(number > 1200 for number, _, _ in signals)
    assert {(name, up) for _, name, up in signals} & {("exposure likely", False), ("exposure unlikely", True)}


@pytest.mark.parametrize("field", ["clicks_f64", "expected_f64"])
def test_a_short_array_is_named(field):
    snapshot = Estimators().snapshot({}, 0)
    assert snapshot.clicks is not None
    broken = replace(snapshot.clicks, examination=replace(snapshot.clicks.examination, **{field: b"1234"}))
    with pytest.raises(ValueError, match=rf"examination\.{field} holds 4 bytes, expected 800"):
        Estimators.from_snapshot(replace(snapshot, clicks=broken))
