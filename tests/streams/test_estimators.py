"""What outcomes teach the estimators, and that their state survives a message bit by bit."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from index.hashing import item_hash
from policy.exposure import BIN_EDGES
from streams.contracts import EstimatorSnapshot, Outcome, encode
from streams.estimator_parts import (
    StoredAudit,
    history_segment,
    pack_exposure,
    pack_frequency,
    unpack_exposure,
    unpack_frequency,
)
from streams.estimators import Estimators
from tests.streams.outcomes import outcomes, slates


def learned(given: list[Outcome]) -> Estimators:
    estimators = Estimators()
    for outcome in given:
        estimators.learn(outcome)
    return estimators


def external(items: list[str], candidates: int = 0, unshown: list[str] | None = None) -> Outcome:
    return replace(
        outcomes(1)[0],
        origin="external",
        items=items,
        rewards=[0.0] * len(items),
        inclusion=None,
        unshown=unshown or [],
        unshown_inclusion=None,
        candidates=candidates,
        release=None,
    )


def through_the_wire(estimators: Estimators) -> Estimators:
    snapshot = msgspec.json.decode(encode(estimators.snapshot({0: 7}, 1)), type=EstimatorSnapshot)
    return Estimators.from_snapshot(snapshot, estimators.audit.pack())


# --- state as messages ------------------------------------------------------------------------------------


def test_states_survive_the_wire_exactly():
    estimators = learned(outcomes(120))
    frequency = unpack_frequency(pack_frequency(estimators.frequency))
    for name, value in estimators.frequency.state().items():
        np.testing.assert_array_equal(frequency.state()[name], value)
    assert unpack_exposure(pack_exposure(estimators.exposure)).state() == estimators.exposure.state()
    untouched = Estimators().exposure
    assert unpack_exposure(pack_exposure(untouched)).state() == untouched.state()


def test_learning_on_from_a_snapshot_is_learning_on_without_one():
    given = outcomes(200)
    whole = learned(given)
    parts = Estimators()
    for number, outcome in enumerate(given):
        if number in (0, 1, 2, 50, 130):
            parts = through_the_wire(parts)
        parts.learn(outcome)
    assert parts.snapshot({0: 7}, 1) == whole.snapshot({0: 7}, 1)
    assert parts.audit.pack() == whole.audit.pack()


def test_arrays_are_little_endian_and_row_by_row():
    state = pack_frequency(learned(outcomes(20)).frequency)
    gaps = np.frombuffer(state.gap_f64, "<f8").reshape(state.rows, state.width)
    hits = np.frombuffer(state.hits_i64, "<i8").reshape(state.rows, state.width)
    assert ((gaps > 0) == (hits > 0)).all()
    assert hits.sum(axis=1).max() <= 20 * 10
    exposure = pack_exposure(learned(outcomes(20)).exposure)
    buckets = np.frombuffer(exposure.bucket_i32, "<i4")
    assert (np.diff(buckets) > 0).all()
    assert buckets.max() < 2**exposure.bits


@pytest.mark.parametrize("field", ["last_i64", "gap_f64", "hits_i64"])
def test_a_short_frequency_array_is_named(field):
    state = replace(pack_frequency(Estimators().frequency), **{field: b"1234"})
    with pytest.raises(ValueError, match=rf"frequency\.{field} holds 4 bytes, expected 131072"):
        unpack_frequency(state)


@pytest.mark.parametrize("field", ["weight_f64", "z_f64", "n_f64"])
def test_exposure_arrays_of_different_length_are_named(field):
    state = replace(pack_exposure(learned(outcomes(3)).exposure), **{field: b""})
    with pytest.raises(ValueError, match=rf"exposure\.{field} holds 0 bytes"):
        unpack_exposure(state)


def test_a_broken_audit_is_named():
    with pytest.raises(ValueError, match="audit: weight, residual hold 1, 1, expected 12"):
        StoredAudit.unpack(b'{"scale": 1.0, "weight": [1.0], "residual": [1.0]}')


def test_the_id_names_the_content_and_not_the_time():
    estimators = learned(outcomes(30))
    first, later = estimators.snapshot({0: 30, 1: 2}, 1), estimators.snapshot({1: 2, 0: 30}, 2)
    assert first.estimator == later.estimator
    assert first.estimator.startswith("e30-") and len(first.estimator) == len("e30-") + 8
    assert first.offsets == {"0": 30, "1": 2}
    assert estimators.snapshot({0: 31}, 1).estimator != first.estimator


# --- frequency --------------------------------------------------------------------------------------------


def test_one_outcome_is_one_step_of_the_frequency():
    given = [external(["a", "b"]), external(["a"]), external(["a", "c"]), external(["a", "b"])] * 50
    estimators = learned(given)
    hashes = np.array([item_hash(item) for item in "abc"], np.uint64)
    assert estimators.frequency.step == estimators.outcomes == 200
    np.testing.assert_allclose(estimators.frequency.probability(hashes), [1, 0.5, 0.25], rtol=0.05)


def test_an_empty_slate_counts_as_a_step_in_which_nothing_was_shown():
    assert learned([external([])] * 3).frequency.step == 3


# --- exposure ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "observations"),
    [
        (external(["a", "b"]), 0),
        (external(["a", "b"], candidates=20), 0),  # what was not shown is unknown
        (external(["a", "b"], candidates=20, unshown=["c"]), 3),
        (external(["a", "b"], candidates=2), 2),  # nothing was left out
        (external([], candidates=0), 0),
    ],
)
def test_the_exposure_model_learns_only_where_it_is_known_what_was_not_shown(given, observations):
    estimators = learned([given])
    assert estimators.exposure.state()["iterations"] == observations
    assert estimators.calibration_error is None


def test_popularity_is_that_from_before_the_outcome():
    seen: list[float] = []
    estimators = Estimators()
    real = estimators.exposure.features
    estimators.exposure.features = lambda *given: (seen.append(given[2]), real(*given))[1]
    for _ in range(2):
        estimators.learn(external(["a"], candidates=1))
    assert seen == [0.0, pytest.approx(math.log(1.0))]
    estimators.learn(external(["b"], candidates=1))
    assert seen[-1] == pytest.approx(math.log(1 / 3))


@pytest.mark.parametrize(
    ("events", "segment"),
    [(0, "0"), (1, "1-4"), (4, "1-4"), (5, "5-19"), (19, "5-19"), (20, "20-99"), (99, "20-99"), (100, "100+")],
)
def test_segments_of_history(events, segment):
    assert history_segment(events) == segment


def test_calibration_error_is_small_and_is_that_over_all_candidates():
    """The audit sees 14 of 52 candidates a slate; the error over all of them, of the same predictions, is the truth."""
    estimators = Estimators()
    predicted: list[float] = []
    logged: list[float] = []
    for number, (outcome, names, inclusion) in enumerate(slates(2500, seed=5)):
        if number >= 1800:
            predicted += [predict(estimators, outcome, name) for name in names[:8]]  # candidates are in no order
            logged += inclusion[:8].tolist()
        estimators.learn(outcome)
    assert estimators.calibration_error is not None
    assert estimators.calibration_error <= 0.05
    assert estimators.calibration_error == pytest.approx(calibration_error(predicted, logged), abs=0.01)
    assert abs(estimators.audit.residual) < 0.005
    assert np.mean(logged) == pytest.approx(10 / 52, abs=0.005)
    assert np.corrcoef(predicted, logged)[0, 1] > 0.7


def predict(estimators: Estimators, outcome: Outcome, item: str) -> float:
    popularity = math.log(estimators.frequency.probability(np.array([item_hash(item)], np.uint64))[0])
    segment, hour = history_segment(outcome.history), outcome.time // 3_600_000 % 24
    return estimators.exposure.predict_one(estimators.exposure.features(segment, item, popularity, "r1", hour))


def calibration_error(predicted: list[float], logged: list[float]) -> float:
    bins, residual = np.digitize(predicted, BIN_EDGES), np.array(logged) - predicted
    return float(sum(abs(residual[bins == one].sum()) for one in range(len(BIN_EDGES) + 1)) / len(predicted))


# --- bad outcomes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rewards": [0.0]}, "rewards holds 1 numbers, expected 10"),
        ({"inclusion": [0.5]}, "inclusion holds 1 numbers, expected 10"),
        ({"unshown_inclusion": [0.5]}, "unshown_inclusion holds 1 numbers, expected 4"),
        ({"candidates": 13}, "candidates is 13, expected at least the 14"),
        ({"items": ["x" * 257] * 10}, "257 bytes"),
        ({"unshown": ["", "a", "b", "c"]}, "0 bytes"),
    ],
)
def test_an_outcome_that_contradicts_itself_teaches_nothing(change, named):
    estimators = learned(outcomes(5))
    before = estimators.snapshot({}, 1), estimators.audit.pack()
    with pytest.raises(ValueError, match=named):
        estimators.learn(replace(outcomes(1)[0], **change))
    assert (estimators.snapshot({}, 1), estimators.audit.pack()) == before
