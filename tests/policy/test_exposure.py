from __future__ import annotations

import json
import math

import numpy as np
import pytest

from policy.exposure import CalibrationAudit, ExposureModel

ITEMS = 30


def popularity(item: int) -> float:
    return 0.6 * 0.9**item


def train(model: ExposureModel, steps: int, seed: int, weight: float = 1.0) -> ExposureModel:
    """Show each item with its popularity; unshown ones are learned from with probability 1 / weight."""
    random = np.random.default_rng(seed)
    for _ in range(steps):
        item = int(random.integers(ITEMS))
        features = model.features("new", f"item{item}", math.log(popularity(item)), "r1", int(random.integers(24)))
        if random.random() < popularity(item):
            model.learn_one(features, True)
        elif random.random() < 1 / weight:
            model.learn_one(features, False, weight)
    return model


def predictions(model: ExposureModel) -> list[float]:
    return [
        model.predict_one(model.features("new", f"item{i}", math.log(popularity(i)), "r1", 12)) for i in range(ITEMS)
    ]


def test_learns_who_is_shown() -> None:
    predicted = predictions(train(ExposureModel(), 8000, 1))
    expected = [popularity(item) for item in range(ITEMS)]
    assert np.abs(np.array(predicted) - expected).mean() < 0.04
    assert np.corrcoef(predicted, expected)[0, 1] > 0.95


def test_weights_undo_the_sampling_of_what_was_not_shown() -> None:
    expected = np.array([popularity(item) for item in range(ITEMS)])
    predicted = np.array(predictions(train(ExposureModel(), 20_000, 2, weight=5.0)))
    assert abs((predicted - expected).mean()) < 0.05


def test_state_goes_through_json_and_on() -> None:
    model = train(ExposureModel(bits=10), 500, 3)
    restored = ExposureModel.from_state(json.loads(json.dumps(model.state())))
    assert predictions(restored) == predictions(model)
    assert predictions(train(restored, 200, 4)) == predictions(train(model, 200, 4))


def test_the_number_of_weights_is_bounded() -> None:
    model = ExposureModel(bits=5)
    for item in range(500):
        model.learn_one(model.features("a", f"item{item}", -1.0, "r1", 0), item % 2 == 0)
    assert len(model.state()["buckets"]) <= 32


def test_features_are_the_same_in_every_process() -> None:
    assert ExposureModel(bits=18).features("new", "item1", -2.0, "r1", 5) == {
        83955: 1.0,
        38435: 1.0,
        18443: 1.0,
        148457: 1.0,
        30083: -0.4,
    }


@pytest.mark.parametrize(
    ("log_popularity", "hour", "named"), [(0.1, 0, "log_popularity"), (-math.inf, 0, "log"), (-1.0, 24, "hour")]
)
def test_bad_features_are_named(log_popularity: float, hour: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ExposureModel().features("a", "b", log_popularity, "r", hour)


def test_bad_settings_and_state_are_named() -> None:
    with pytest.raises(ValueError, match="bits is 0"):
        ExposureModel(bits=0)
    with pytest.raises(ValueError, match="half_life"):
        CalibrationAudit(half_life=0)
    state = ExposureModel(bits=3).state() | {"buckets": [[9, 0.0, 0.0, 0.0]]}
    with pytest.raises(ValueError, match="bucket is 9"):
        ExposureModel.from_state(state)


def test_audit_measures_error_and_its_direction() -> None:
    audit = CalibrationAudit()
    for logged in np.random.default_rng(0).uniform(0.1, 0.9, 2000):
        audit.update(logged, logged)
    assert audit.calibration_error == pytest.approx(0, abs=1e-12)
    biased = CalibrationAudit()
    for index, logged in enumerate(np.random.default_rng(0).uniform(0.2, 0.8, 4000)):
        biased.update(logged + (0.1 if index % 2 else -0.1) * (1 if logged < 0.5 else 0), logged)
    assert abs(biased.residual) < 0.01
    over, under = CalibrationAudit(), CalibrationAudit()
    for _ in range(100):
        over.update(0.04, 0.01)
        under.update(0.25, 0.35)
    assert over.calibration_error == pytest.approx(0.03)
    assert over.residual == pytest.approx(-0.03)
    assert under.residual == pytest.approx(0.1)


def test_errors_of_opposite_sign_do_not_cancel_across_bins() -> None:
    audit = CalibrationAudit()
    for _ in range(100):
        audit.update(0.04, 0.09)
        audit.update(0.4, 0.35)
    assert audit.residual == pytest.approx(0.0, abs=1e-5)
    assert audit.calibration_error == pytest.approx(0.05)


def test_audit_forgets() -> None:
    audit = CalibrationAudit(half_life=50)
    for _ in range(1000):
        audit.update(0.5, 0.9)
    for _ in range(50):
        audit.update(0.5, 0.5)
    assert audit.residual == pytest.approx(0.2, rel=0.01)
    for _ in range(20_000):  # far past the rescaling of the sums
        audit.update(0.5, 0.6)
    assert audit.residual == pytest.approx(0.1)


def test_the_state_of_an_audit_goes_through_json_and_on() -> None:
    audit = CalibrationAudit(half_life=50)
    for logged in np.random.default_rng(1).random(100):
        audit.update(0.4, float(logged))
    restored = CalibrationAudit.from_state(json.loads(json.dumps(audit.state())))
    for each in (audit, restored):
        each.update(0.2, 0.3)
    assert restored.residual == audit.residual
    assert restored.calibration_error == audit.calibration_error
    with pytest.raises(ValueError, match="bins, expected 12"):
        CalibrationAudit.from_state(audit.state() | {"weight": [1.0]})


def test_an_audit_that_saw_nothing_reports_nothing() -> None:
    assert not CalibrationAudit().observed
    assert CalibrationAudit().calibration_error == 0.0
    assert CalibrationAudit().residual == 0.0


def test_weights_of_the_audit_undo_sampling() -> None:
    """Nine of ten with a small error are not seen; the one that is stands for them."""
    sampled, whole = CalibrationAudit(half_life=1e9), CalibrationAudit(half_life=1e9)
    for _ in range(200):
        for _ in range(9):
            whole.update(0.04, 0.03)
        whole.update(0.6, 0.2)
        sampled.update(0.04, 0.03, weight=9.0)
        sampled.update(0.6, 0.2)
    assert sampled.calibration_error == pytest.approx(whole.calibration_error)
    assert sampled.residual == pytest.approx(whole.residual)


def test_after_quickening_it_predicts_the_same_and_learns_faster() -> None:
    quick, slow = train(ExposureModel(), 6000, 1), train(ExposureModel(), 6000, 1)
    quick.quicken(10.0)
    assert predictions(quick) == predictions(slow)
    features = quick.features("new", "item20", math.log(popularity(20)), "r1", 12)
    before = quick.predict_one(features)
    for model in (quick, slow):
        for _ in range(20):
            model.learn_one(features, True)
    assert quick.predict_one(features) - before > 2 * (slow.predict_one(features) - before) > 0
    with pytest.raises(ValueError, match="factor is 0"):
        quick.quicken(0.5)
