import subprocess
import sys

import numpy as np
import pytest
import torch

from models.config import EvolutionConfig
from models.features import ItemFeatures
from models.serving import ServingModel
from models.tower import ItemTower
from tests.models.conftest import TWO, Histories, Twins, make_twins, random_features

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model(twins: Twins) -> ServingModel:
    return ServingModel(twins.release)


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, atol=TOLERANCE, rtol=0)


def test_serving_does_not_need_torch() -> None:
    code = "import sys, models.serving; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("config", [None, EvolutionConfig(), TWO], ids=["small", "default", "two members"])
def test_steps_agree_with_the_full_forward_pass_across_wraps(twins: Twins, config: EvolutionConfig | None) -> None:
    twins = twins if config is None else make_twins(config)
    model, window = ServingModel(twins.release), twins.release.config.window
    histories = Histories.random(3, 4 * window + 1, model.dim)
    expected = histories.forward(twins.evolution)
    cache, rows = model.new_cache(8), np.array([6, 0, 3])
    for event in range(histories.times.shape[1]):
        assert_close(model.step(cache, rows, *histories.at(event)), expected[:, event])


@pytest.mark.parametrize("events", [1, 2, 5, 6, 7, 17, 18, 19, 30])
def test_a_rebuilt_cache_goes_on_as_if_stepped(twins: Twins, model: ServingModel, events: int) -> None:
    histories = Histories.random(4, events + 15, model.dim)
    expected = histories.forward(twins.evolution)
    cache, rows = model.new_cache(4), np.array([2, 1, 3, 0])
    assert_close(model.rebuild(cache, rows, *histories.slices(0, events)), expected[:, events - 1])
    for event in range(events, events + 15):
        assert_close(model.step(cache, rows, *histories.at(event)), expected[:, event])


@pytest.mark.parametrize("config", [None, EvolutionConfig(), TWO], ids=["small", "default", "two members"])
def test_the_last_layers_times_window_events_are_enough_and_window_is_not(
    twins: Twins, config: EvolutionConfig | None
) -> None:
    twins = twins if config is None else make_twins(config)
    model, shape = ServingModel(twins.release), twins.release.config
    events = shape.history + 2 * shape.window
    histories = Histories.random(3, events + 1, model.dim)
    expected = histories.forward(twins.evolution)

    def off_by(kept: int) -> float:
        cache, rows = model.new_cache(3), np.arange(3)
        rebuilt = model.rebuild(cache, rows, *histories.slices(events - kept, events))
        stepped = model.step(cache, rows, *histories.at(events))
        return max(np.abs(rebuilt - expected[:, -2]).max(), np.abs(stepped - expected[:, -1]).max())

    assert off_by(shape.history) < TOLERANCE
    assert off_by(shape.window) > 100 * TOLERANCE


def test_users_of_all_lengths_rebuild_together(twins: Twins, model: ServingModel) -> None:
    lengths = np.random.default_rng(0).integers(1, 25, 40)
    histories = Histories.random(40, 25, model.dim)
    expected = histories.forward(twins.evolution)[np.arange(40), lengths - 1]
    arguments = [[a[:n] for a, n in zip(arrays, lengths, strict=True)] for arrays in histories.slices(0, 25)]
    cache = model.new_cache(40)
    assert_close(model.rebuild(cache, np.arange(40)[::-1].copy(), *arguments), expected)
    assert cache.count[::-1].tolist() == np.minimum(lengths, model.config.history).tolist()


def test_results_do_not_depend_on_the_batch(model: ServingModel) -> None:
    histories = Histories.random(150, 9, model.dim)
    together, alone = model.new_cache(150), model.new_cache(150)
    for event in range(9):
        x, times, actions, weights = histories.at(event)
        batch = model.step(together, np.arange(150), x, times, actions, weights)
        for part in (slice(0, 1), slice(1, 4), slice(4, 100), slice(100, 150)):
            rows = np.arange(150)[part]
            assert_close(model.step(alone, rows, x[part], times[part], actions[part], weights[part]), batch[part])


def test_rows_do_not_touch_each_other(model: ServingModel) -> None:
    histories = Histories.random(2, 20, model.dim)
    quiet, busy = model.new_cache(2), model.new_cache(2)
    for event in range(20):
        x, times, actions, weights = histories.at(event)
        one = model.step(quiet, np.array([0]), x[:1], times[:1], actions[:1], weights[:1])
        two = model.step(busy, np.array([0, 1]), x, times, actions, weights)
        assert_close(two[:1], one)


def test_a_cleared_row_starts_anew(model: ServingModel) -> None:
    histories = Histories.random(1, 12, model.dim)
    cache, row = model.new_cache(2), np.array([1])
    first = model.step(cache, row, *histories.at(0))
    for event in range(1, 12):
        model.step(cache, row, *histories.at(event))
    cache.clear(row)
    assert_close(model.step(cache, row, *histories.at(0)), first)


@pytest.mark.parametrize("field", ["inputs", "times", "actions", "weights"])
def test_every_part_of_an_event_matters(model: ServingModel, field: str) -> None:
    histories = Histories.random(1, 2, model.dim)
    given = dict(zip(("inputs", "times", "actions", "weights"), histories.at(1), strict=True))
    changed = given | {field: given[field] + np.asarray(10**8 if field == "times" else 1, given[field].dtype)}
    out = []
    for arguments in (given, changed):
        cache = model.new_cache(1)
        model.step(cache, np.array([0]), *histories.at(0))
        out.append(model.step(cache, np.array([0]), *arguments.values()))
    assert np.abs(out[0] - out[1]).max() > 1e-3


def test_refused_steps_write_nothing(model: ServingModel) -> None:
    histories = Histories.random(2, 1, model.dim)
    cache = model.new_cache(2)
    x, times, actions, weights = histories.at(0)
    for rows, inputs, message in (
        (np.array([0, 0]), x, "twice"),
        (np.array([0, 2]), x, "within 0..1"),
        (np.array([0, 1]), x[:, :-1], r"inputs has shape \(2, 15\), expected \(2, 16\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.step(cache, rows, inputs, times, actions, weights)
    assert not cache.keys.any() and not cache.times.any() and not cache.count.any()


def test_a_cache_of_another_release_is_refused(model: ServingModel) -> None:
    other = ServingModel(make_twins(model.config, seed=1).release)
    histories = Histories.random(1, 1, model.dim)
    with pytest.raises(ValueError, match=other.release_id):
        model.step(other.new_cache(1), np.array([0]), *histories.at(0))


def test_a_rebuild_needs_an_event(model: ServingModel) -> None:
    histories = Histories.random(2, 3, model.dim)
    with pytest.raises(ValueError, match="row 0"):
        model.rebuild(model.new_cache(2), np.arange(2), *histories.slices(0, 0))
    with pytest.raises(ValueError, match="2 users for 1 rows"):
        model.rebuild(model.new_cache(2), np.arange(1), *histories.slices(0, 3))


def test_known_items_have_the_towers_vectors(twins: Twins, model: ServingModel) -> None:
    vectors = model.project(twins.release.item_ids, twins.features)
    with torch.no_grad():
        unit, bias = twins.tower(torch.arange(len(twins.features)))
    assert_close(vectors.search, np.concatenate([unit.numpy(), bias.numpy()[:, None]], axis=1))
    assert_close(vectors.input, unit.numpy() * model.dim**0.5)


def test_a_new_item_has_the_vector_of_its_features_and_a_careful_bias(twins: Twins, model: ServingModel) -> None:
    vectors = model.project([f"new-{at}" for at in range(len(twins.features))], twins.features)
    features_only = ItemTower(twins.tower.get_buffer("columns"), model.dim, id_dropout=0)
    with torch.no_grad():
        for name in ("project", "project_bias", "popularity", "popularity_bias"):
            getattr(features_only, name).copy_(getattr(twins.tower, name))
        unit, bias = features_only(torch.arange(len(twins.features)))
    assert_close(vectors.search, np.concatenate([unit.numpy(), bias.numpy()[:, None] - 0.5], axis=1))


def test_known_and_new_items_mix(twins: Twins, model: ServingModel) -> None:
    ids = ["new" if at % 2 else item for at, item in enumerate(twins.release.item_ids)]
    mixed = model.project(ids, twins.features).search
    known = model.project(twins.release.item_ids, twins.features).search
    new = model.project(["new"] * len(ids), twins.features).search
    assert_close(mixed[::2], known[::2])
    assert_close(mixed[1::2], new[1::2])
    assert np.abs(known - new).max(axis=1).min() > 0.04


def test_two_members_score_as_the_mean_of_two_models() -> None:
    twins = make_twins(TWO)
    model, histories = ServingModel(twins.release), Histories.random(3, 9, TWO.dim)
    hidden = histories.forward(twins.evolution)[:, -1]
    items = model.project(twins.release.item_ids, twins.features).search
    found = model.user_vectors(hidden) @ items.T
    bias, temperature = items[:, -1], np.exp(twins.release.arrays["evolution.log_temperature"])
    with torch.no_grad():
        tower = twins.tower.get_buffer("columns") @ twins.tower.project + twins.tower.project_bias
        raw = (tower + twins.tower.residual).numpy()

    def score(half: slice) -> np.ndarray:
        user, item = (part[:, half] / np.linalg.norm(part[:, half], axis=1, keepdims=True) for part in (hidden, raw))
        return user @ item.T / temperature + bias

    assert_close(found, (score(slice(0, 16)) + score(slice(16, 32))) / 2)


def test_a_logit_is_an_inner_product(twins: Twins, model: ServingModel) -> None:
    vectors = model.project(twins.release.item_ids, twins.features)
    hidden = np.random.default_rng(0).normal(size=(3, model.dim)).astype(np.float32)
    with torch.no_grad():
        unit, bias = twins.tower(torch.arange(len(twins.features)))
        expected = twins.evolution.query(torch.from_numpy(hidden)) @ unit.T + bias
    assert_close(model.user_vectors(hidden) @ vectors.search.T, expected.numpy())


def test_a_user_without_events_has_the_start_vector(twins: Twins, model: ServingModel) -> None:
    with torch.no_grad():
        expected = twins.evolution.query(twins.evolution.start).numpy()
    assert model.start_vector.shape == (model.dim + 1,)
    assert_close(model.start_vector, np.append(expected, 1))


def test_items_and_features_must_be_as_many(model: ServingModel) -> None:
    with pytest.raises(ValueError, match="2 ids and features of 3 items"):
        model.project(["a", "b"], random_features(3))


def test_no_items_are_fine(model: ServingModel) -> None:
    nothing = ItemFeatures(np.zeros((0, 12), np.float32), [], np.zeros(0, np.int64))
    assert model.project([], nothing).search.shape == (0, model.dim + 1)
    assert model.step(model.new_cache(1), np.zeros(0, np.int64), *Histories.random(0, 1, model.dim).at(0)).shape == (
        0,
        16,
    )
