from pathlib import Path

import numpy as np
import pytest
import torch

from models.batches import InteractionLog
from models.config import EvolutionConfig
from models.features import ItemFeatures
from models.horizon_learner import HorizonConfig
from models.learner import TrainConfig
from models.online import OnlineConfig, OnlineTrainer
from models.release import Release
from models.serving import ServingModel
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
        if name not in ("tower.residual", "tower.item_bias", "tower.new_item_bias", "horizon.everybody"):
            np.testing.assert_array_equal(released.arrays[name], array)
    np.testing.assert_array_equal(released.arrays["tower.residual"][:ITEMS], first.arrays["tower.residual"])
    assert not released.arrays["tower.residual"][ITEMS:].any()
    assert np.isfinite(trainer.learn(backwards(9)))


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
