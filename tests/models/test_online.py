from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.batches import InteractionLog
from models.blended import Blended, BlendedConfig
from models.config import EvolutionConfig
from models.counts import CountsConfig
from models.features import ItemFeatures
from models.horizon_learner import HorizonConfig
from models.learner import TrainConfig
from models.online import OnlineTrainer
from models.online_config import OnlineConfig
from models.release import Release
from models.serving import ServingModel
from models.shown import SlateLog
from tests.models.test_train import CATEGORIES, ITEMS, catalogue, next_categories, walks

TRAINING = TrainConfig(EvolutionConfig(dim=16, window=8, hidden=32), epochs=8, learning_rate=1e-2, average=0.9)
HORIZON = HorizonConfig(hidden=8, warm_up=32, passes=1)
CONFIG = OnlineConfig(TRAINING, learning_rate=5e-3, steps=3, recent=6, replayed=6, horizon=HORIZON)
ONE = np.array([0])


def part(log: InteractionLog, begin: int, end: int) -> InteractionLog:
    return log.part(slice(begin, end))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trainer that has learned the walks, saved."""
    folder = tmp_path_factory.mktemp("trainers") / "warm"
    OnlineTrainer(walks(), *catalogue(), CONFIG, seed=1, text_encoder="encoder").save(folder)
    return folder


@pytest.fixture
def trainer(warm: Path) -> OnlineTrainer:
    return OnlineTrainer.load(warm)


def backwards(seed: int, users: int = 20, events: int = 6) -> InteractionLog:
    """Other users, who walk the other way round: d, c, b, a, d, ..."""
    random = np.random.default_rng(seed)
    category = (random.integers(0, CATEGORIES, users)[:, None] - np.arange(events)) % CATEGORIES
    items = category + CATEGORIES * random.integers(0, ITEMS // CATEGORIES, category.shape)
    times = 10**9 + seed * 10**7 + np.tile(np.arange(events) * 60_000, users)
    codes = 1000 * (seed + 1) + np.repeat(np.arange(users), events)
    n = users * events
    return InteractionLog(codes, items.ravel(), times, np.zeros(n, np.uint8), np.ones(n, np.float32))


def best_after(release: Release, last: int) -> list[int]:
    return next_categories(ServingModel(release), release, last, *catalogue())


def test_rounds_change_what_is_served(trainer: OnlineTrainer) -> None:
    assert best_after(trainer.release(), 1)[:3] == [2, 2, 2]
    losses = [trainer.learn(backwards(seed)) for seed in range(15)]
    assert losses[-1] < losses[0]
    assert best_after(trainer.release(), 1)[:3] == [0, 0, 0]
    assert (trainer.rounds, trainer.events) == (15, 15 * 120)


def test_replay_keeps_what_was_learned_before(warm: Path) -> None:
    """Users of one category come; those who walk are gone. Without replay the walks are forgotten."""

    def after_rounds(replayed: int, recent: int) -> float:
        trainer = OnlineTrainer.load(warm)
        trainer.config = OnlineConfig(TRAINING, 5e-3, steps=3, recent=recent, replayed=replayed)
        for seed in range(12):
            log = backwards(seed)
            log.items[:] = log.items[:1]
            trainer.learn(log)
        model = ServingModel(trainer.release())
        known, cache = model.project(*catalogue()), model.new_cache(1)
        hidden = model.step(cache, ONE, known.input[[1]], ONE, np.zeros(1, np.uint8), np.ones(1, np.float32))
        logits = (model.user_vectors(hidden) @ known.search.T)[0]
        return float(np.log(np.exp(logits[2::CATEGORIES]).sum() / np.exp(logits).sum()))

    assert after_rounds(replayed=10, recent=2) > after_rounds(replayed=0, recent=12) + 0.5


@pytest.mark.parametrize("full_softmax_items", [50_000, 10])
def test_saved_and_loaded_it_goes_on_as_if_it_had_never_stopped(
    warm: Path, tmp_path: Path, full_softmax_items: int
) -> None:
    whole = OnlineTrainer.load(warm)
    training = TrainConfig(**{field: getattr(TRAINING, field) for field in TRAINING.__slots__})
    object.__setattr__(training, "full_softmax_items", full_softmax_items)
    object.__setattr__(training, "negatives", 8)
    whole.config = OnlineConfig(training, 5e-3, steps=3, recent=6, replayed=6, horizon=HORIZON)
    whole._learner.config = training
    whole.put_items(*new_items(2))
    whole.learn(with_new_items(0))
    whole.save(tmp_path / "at-1")
    expected = [whole.learn(backwards(seed)) for seed in (1, 2, 3)]
    torch.rand(5)  # moves the global generator: it must have no say
    resumed = OnlineTrainer.load(tmp_path / "at-1")
    assert resumed.learn(backwards(1)) == expected[0]
    resumed.save(tmp_path / "at-2")
    again = OnlineTrainer.load(tmp_path / "at-2")
    assert [again.learn(backwards(seed)) for seed in (2, 3)] == expected[1:]
    assert again.release().id == whole.release().id
    assert (again.rounds, again.events, again.item_ids) == (whole.rounds, whole.events, whole.item_ids)


def new_items(count: int) -> tuple[list[str], ItemFeatures]:
    """More items of the first category."""
    _, features = catalogue()
    return [f"new{at}" for at in range(count)], features.take(np.arange(count) * CATEGORIES)


def with_new_items(seed: int) -> InteractionLog:
    """Backward walks in which an a is always one of the two new items."""
    log = backwards(seed)
    log.items[:] = np.where(log.items % CATEGORIES == 0, ITEMS + log.items // CATEGORIES % 2, log.items)
    return log


def test_a_new_item_is_ranked_at_once_and_then_learned(trainer: OnlineTrainer) -> None:
    trainer.learn(backwards(0))
    before = trainer.release()
    trainer.put_items(*new_items(2))
    assert trainer.release().arrays.keys() == before.arrays.keys()
    assert trainer.release().item_ids == before.item_ids, "no interaction yet: served by its features"
    trainer.learn(with_new_items(1))
    release = trainer.release()
    assert release.item_ids == (*before.item_ids, "new0", "new1")
    ids, features = [*catalogue()[0], "new0", "new1"], trainer.features

    def rank_of_new(release: Release) -> int:
        model = ServingModel(release)
        known, cache = model.project(ids, features), model.new_cache(1)
        hidden = model.step(cache, ONE, known.input[[1]], ONE, np.zeros(1, np.uint8), np.ones(1, np.float32))
        logits = (model.user_vectors(hidden) @ known.search.T)[0]
        return int((logits > logits[ITEMS:].max()).sum())

    for seed in range(2, 14):
        trainer.learn(with_new_items(seed))
    assert rank_of_new(trainer.release()) == 0 < rank_of_new(before)
    assert np.abs(trainer.release().arrays["tower.residual"][ITEMS:]).max() > 0.01


def test_the_first_interaction_does_not_make_an_item_jump(warm: Path) -> None:
    """In the release that knows it first, a new item stands about where its features alone had put it."""
    trainer = OnlineTrainer.load(warm)
    trainer.config = OnlineConfig(TRAINING, steps=0)
    trainer.put_items(*new_items(1))
    before = ServingModel(trainer.release()).project(*new_items(1)).search
    log = part(backwards(0), 0, 1)
    log.items[:] = ITEMS
    trainer.learn(log)
    release = trainer.release()
    assert release.item_ids[-1] == "new0"
    np.testing.assert_allclose(ServingModel(release).project(*new_items(1)).search, before, atol=1e-5)


def test_changed_features_change_what_is_trained_on(trainer: OnlineTrainer) -> None:
    ids, features = catalogue()
    trainer.put_items(ids[:1], features.take(np.array([1])))
    assert trainer.item_ids == ids
    np.testing.assert_array_equal(trainer.features.text[0], features.text[1])
    columns = trainer._learner.tower.get_buffer("columns").numpy()
    np.testing.assert_array_equal(columns[0], columns[1])
    assert np.abs(columns[2] - columns[1]).max() > 0.1


def test_what_is_released_is_the_moving_average(trainer: OnlineTrainer) -> None:
    name, decay = "tower.project", TRAINING.average
    expected = trainer.release().arrays[name]
    trainer.config = OnlineConfig(TRAINING, 5e-3, steps=1)
    for seed in range(3):
        trainer.learn(backwards(seed))
        weights = trainer._learner.state()[f"weights.{name}"]
        expected = (decay * expected + (1 - decay) * weights).astype(np.float32)
    np.testing.assert_allclose(trainer.release().arrays[name], expected, atol=1e-6)
    assert np.abs(weights - expected).max() > 1e-3


def test_every_new_interaction_is_in_a_recent_piece(trainer: OnlineTrainer) -> None:
    log = backwards(0, users=3, events=30)
    mixed = log.part(np.random.default_rng(0).permutation(len(log)))
    numbers = trainer._exemplars.add(mixed)
    covered = trainer._exemplars.chains(trainer._recent_ends(mixed.users, numbers), 8)
    assert set(numbers.tolist()) <= set(covered.ravel().tolist())


def test_interactions_of_erased_users_are_trained_on_no_more(trainer: OnlineTrainer) -> None:
    log = backwards(0)
    trainer.learn(log)
    assert len(trainer.histories(log.users[:1])[0][0]) == 6
    trainer.forget(np.unique(log.users))
    assert len(trainer.histories(log.users[:1])[0][0]) == 0


def test_worthless_targets_teach_nothing(warm: Path) -> None:
    """Two trainers, one of which is told that the targets with items of category a count (nearly) nothing."""
    shares = []
    for worth in (1.0, 1e-4):
        trainer = OnlineTrainer.load(warm)
        trainer.config = OnlineConfig(TRAINING, steps=0)
        log = backwards(0, users=60)
        trainer.learn(log)
        of_a = log.items % CATEGORIES == 0
        trainer.weigh(log.users[of_a], log.items[of_a], np.full(of_a.sum(), worth, np.float32))
        trainer.config = OnlineConfig(TRAINING, 5e-3, steps=30, recent=0, replayed=12)
        trainer.learn(part(backwards(1), 0, 1))
        model = ServingModel(trainer.release())
        known, cache = model.project(*catalogue()), model.new_cache(1)
        hidden = model.step(cache, ONE, known.input[[1]], ONE, np.zeros(1, np.uint8), np.ones(1, np.float32))
        logits = (model.user_vectors(hidden) @ known.search.T)[0]
        shares.append(np.exp(logits[::CATEGORIES]).sum() / np.exp(logits).sum())
    assert shares[1] < 0.5 * shares[0]


def test_an_adopted_release_is_where_training_goes_on(trainer: OnlineTrainer) -> None:
    first = trainer.release()
    trainer.put_items(*new_items(2))
    for seed in range(4):
        trainer.learn(with_new_items(seed) if not seed else backwards(seed))
    trainer.adopt(first)
    released = trainer.release()
    for name, array in first.arrays.items():
        if (
            name not in ("tower.residual", "tower.item_bias", "tower.new_item_bias", "horizon.everybody")
            and "counts." not in name
        ):
            np.testing.assert_array_equal(released.arrays[name], array)
    np.testing.assert_array_equal(released.arrays["tower.residual"][:ITEMS], first.arrays["tower.residual"])
    assert not released.arrays["tower.residual"][ITEMS:].any()
    assert np.isfinite(trainer.learn(backwards(9)))


def two_members() -> OnlineTrainer:
    training = replace(TRAINING, model=replace(TRAINING.model, members=2), epochs=2)
    return OnlineTrainer(walks(), *catalogue(), replace(CONFIG, training=training), seed=1)


def test_two_members_go_on_as_if_they_had_never_stopped(tmp_path: Path) -> None:
    trainer = two_members()
    trainer.save(tmp_path / "two")
    expected = trainer.learn(backwards(0))
    again = OnlineTrainer.load(tmp_path / "two")
    assert again.learn(backwards(0)) == expected
    assert again.release().id == trainer.release().id


Learned = tuple[InteractionLog, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray], np.ndarray]


def what_the_blend_learned(trainer: OnlineTrainer, log: InteractionLog, monkeypatch: pytest.MonkeyPatch) -> Learned:
    """What a round gave to its blend."""
    given: list[Learned] = []

    def learn(self: Blended, *arguments: Any) -> float:
        given.append(arguments)
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr(Blended, "learn", learn)
        trainer.learn(log)
    return given[0]


@pytest.mark.parametrize("members", [1, 2])
def test_the_blend_learns_from_what_a_worker_would_have_had(
    warm: Path, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    trainer = OnlineTrainer.load(warm) if members == 1 else two_members()
    trainer.learn(backwards(0))
    trainer.put_items(*new_items(1))
    served = ServingModel(trainer.release())
    walk, back = walks(3, 40), backwards(0, users=2, events=9)
    log = InteractionLog(*(np.concatenate([getattr(one, name) for one in (walk, back)]) for name in walk.__slots__))
    log = log.part(np.random.default_rng(0).permutation(len(log)))
    log.items[5] = -1
    before = {int(user): trainer.histories(np.array([user]))[0] for user in np.unique(log.users)}
    assert 0 < len(before[0][0]) < trainer.config.training.model.history < 40
    _, users, items, *_ = what_the_blend_learned(trainer, log, monkeypatch)

    np.testing.assert_allclose(items, served.project(trainer.item_ids, trainer.features).search, atol=1e-5)
    inputs = np.concatenate([items[:, :-1] * 4, np.zeros((1, 16), np.float32)])  # of d 16; an unknown item feeds zeros
    caches = {user: served.new_cache(1) for user in before}
    vectors = dict.fromkeys(before, served.start_vector)

    def step(user: int, item: int, time: int, action: int, weight: float) -> None:
        event = np.array([time]), np.array([action], np.uint8), np.array([weight], np.float32)
        vectors[user] = served.user_vectors(served.step(caches[user], ONE, inputs[[item]], *event))[0]

    for user, history in before.items():
        for event in zip(*history, strict=True):
            step(user, *event)
    for at in range(len(log)):
        user = int(log.users[at])
        np.testing.assert_allclose(users[at], vectors[user], atol=1e-4)
        step(user, log.items[at], log.times_ms[at], log.actions[at], log.weights[at])


def test_a_round_may_be_larger_than_what_is_remembered() -> None:
    config = OnlineConfig(TrainConfig(TRAINING.model, epochs=1), exemplars=50, horizon=None)
    trainer = OnlineTrainer(walks(), *catalogue(), config)
    assert np.isfinite(trainer.learn(backwards(0)))
    assert trainer.release().source == "near"


def test_what_a_user_has_seen_is_no_candidate_for_the_blend(
    trainer: OnlineTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = InteractionLog(
        np.array([9000, 9001, 9000, 9000]),
        np.array([3, 4, 5, 3]),
        np.arange(4) * 1000,
        np.zeros(4, np.uint8),
        np.ones(4, np.float32),
    )
    _, _, _, (event, row), _ = what_the_blend_learned(trainer, log, monkeypatch)
    assert sorted(zip(event.tolist(), row.tolist(), strict=True)) == [(2, 3), (3, 3), (3, 5)]


def test_counts_and_blend_are_in_the_release(trainer: OnlineTrainer) -> None:
    before = trainer.release()
    for seed in range(3):
        trainer.learn(backwards(seed))
    release = trainer.release()
    assert release.source == "near"
    for name in ("blend.weights", "counts.pairs.near.values", "counts.pairs.learned.values"):
        assert np.abs(release.arrays[name] - before.arrays[name]).max() > 1e-3


def test_a_trainer_without_blend_releases_the_model_alone(tmp_path: Path) -> None:
    config = OnlineConfig(TrainConfig(TRAINING.model, epochs=1), blended=None)
    trainer = OnlineTrainer(walks(), *catalogue(), config)
    trainer.save(tmp_path)
    loaded = OnlineTrainer.load(tmp_path)
    assert loaded.learn(backwards(0)) == trainer.learn(backwards(0))
    assert loaded.release().source == ""
    assert not any(name.startswith(("counts.", "blend.")) for name in loaded.release().arrays)


def test_items_without_features_start_apart_and_a_new_one_where_its_company_is() -> None:
    ids = [f"i{at}" for at in range(ITEMS)]
    nothing = ItemFeatures(np.zeros((ITEMS, 0), np.float32), [()] * ITEMS, np.zeros(ITEMS, np.int64))
    trainer = OnlineTrainer(walks(), ids, nothing, OnlineConfig(TrainConfig(TRAINING.model, epochs=1), steps=0))
    unit = ServingModel(trainer.release()).project(ids, nothing).search[:, :-1]
    assert (unit @ unit.T - 2 * np.eye(ITEMS)).max() < 0.95
    trainer.put_items(["new"], nothing.take(ONE))
    log = part(walks(1, 4), 0, 4)
    log.users[:] = 77
    log.items[:] = [1, 5, 9, ITEMS]
    trainer.learn(log)
    residual = trainer.release().arrays["tower.residual"]
    np.testing.assert_allclose(residual[ITEMS], residual[[1, 5, 9]].mean(axis=0), atol=1e-6)


def test_nothing_to_learn_is_no_loss(trainer: OnlineTrainer) -> None:
    log = part(backwards(0), 0, 5)
    log.items[:] = -1
    trainer.config = OnlineConfig(TRAINING, replayed=0, recent=0)
    before = trainer.release().arrays
    assert np.isnan(trainer.learn(log))
    assert np.isfinite(before["tower.project"]).all()


def test_rows_beyond_the_items_are_refused_before_anything_is_learned(trainer: OnlineTrainer) -> None:
    log = backwards(0)
    log.items[3] = ITEMS
    with pytest.raises(ValueError, match=f"item row {ITEMS}, expected within -1..{ITEMS - 1}"):
        trainer.learn(log)
    assert trainer.rounds == 0 and not len(trainer.histories(log.users[:1])[0][0])


@pytest.mark.parametrize("name", ["trainer.json", "trainer.safetensors"])
def test_a_damaged_or_missing_file_is_named(trainer: OnlineTrainer, tmp_path: Path, name: str) -> None:
    trainer.save(tmp_path)
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match="not a trainer that can be read"):
        OnlineTrainer.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError):
        OnlineTrainer.load(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("steps", -1), ("exemplars", 0), ("learning_rate", 0.0)])
def test_a_field_outside_its_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        OnlineConfig(**{field: value})  # type: ignore[arg-type]


def test_the_end_of_the_warm_up_teaches_the_blend_before_the_first_release() -> None:
    def first_release(rehearsal: float) -> tuple[Release, list[int], OnlineTrainer]:
        epochs: list[int] = []
        config = OnlineConfig(TRAINING, rehearsal=rehearsal, finish=0.25, round_events=20)
        trainer = OnlineTrainer(walks(), *catalogue(), config, progress=lambda epoch, *_: epochs.append(epoch))
        return trainer.release(), epochs, trainer

    plain, _, _ = first_release(0.0)
    rehearsed, epochs, trainer = first_release(0.3)
    at_first = plain.arrays["blend.weights"]
    assert (at_first == at_first[0]).all(), "as the configuration has them, whatever the context"
    assert np.abs(rehearsed.arrays["blend.weights"] - at_first).max() > 1e-3
    assert epochs == list(range(1, TRAINING.epochs + 1))
    assert (trainer.rounds, trainer.events) == (0, 0)
    for name in ("counts.items.popularity_1000", "counts.pairs.near.values"):
        counted = (np.sort(release.arrays[name]) for release in (rehearsed, plain))  # a row may be in any order
        np.testing.assert_allclose(*counted, rtol=1e-5)
    assert trainer._learner.counts.sum() == trainer._exemplars.total == 480
    assert best_after(rehearsed, 1)[:3] == [2, 2, 2]


def told_by_slates() -> OnlineTrainer:
    blended = BlendedConfig(CountsConfig(liked=1000.0))
    config = replace(CONFIG, training=replace(TRAINING, epochs=1), rehearsal=0.0, horizon=None, blended=blended)
    return OnlineTrainer(walks(20, 8), *catalogue(), config)


def shown_twice() -> tuple[InteractionLog, SlateLog]:
    """Two users take an item of three that they were shown; item 2 is left alone at the first position each time."""
    users, items = np.array([7, 8]), np.array([0, 1])
    log = InteractionLog(users, items, np.array([2000, 2000]), np.zeros(2, np.uint8), np.ones(2, np.float32))
    rows = np.stack([np.full(2, 2), items, items + 3], axis=1)
    examination = np.broadcast_to(np.array([1, 0.5, 0.3], np.float32), rows.shape)
    return log, SlateLog(users, np.full(2, 1000), rows, rows == items[:, None], examination)


def popularity(trainer: OnlineTrainer) -> np.ndarray:
    return np.exp(trainer.release().arrays["counts.items.popularity_1000"][:2])


def test_a_click_on_a_slate_is_counted_when_its_slate_is_told_and_once() -> None:
    trainer = told_by_slates()
    log, slates = shown_twice()
    before = popularity(trainer)
    trainer.learn(log, np.array([True, False]))
    waiting = popularity(trainer)
    assert waiting[0] == pytest.approx(before[0], abs=0.01)
    assert waiting[1] == pytest.approx(before[1] + 1, abs=0.01)
    trainer.learn_shown(slates)
    assert popularity(trainer) == pytest.approx(waiting + np.array([1, 0]), abs=0.01)
    trainer.learn_shown(slates)
    assert popularity(trainer) == pytest.approx(waiting + np.array([1, 0]), abs=0.01)
    liked = trainer.release().arrays["counts.items.liked"]
    assert liked[2] < 0 < liked[[0, 1]].min()
    with pytest.raises(ValueError, match="item 101"):
        trainer.learn_shown(replace(slates, items=slates.items + 97))


def test_slates_are_learned_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    one = told_by_slates()
    log, slates = shown_twice()
    one.learn(log, np.ones(2, bool))
    one.save(tmp_path / "waiting")
    other = OnlineTrainer.load(tmp_path / "waiting")
    for trainer in (one, other):
        trainer.learn_shown(slates)
        trainer.learn(backwards(0))
    assert other.release().id == one.release().id
