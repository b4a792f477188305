import numpy as np
import pytest
import torch

from models.batches import InteractionLog
from models.config import EvolutionConfig
from models.features import ItemFeatures
from models.learner import TrainConfig
from models.release import Release
from models.serving import ServingModel
from models.train import train

ITEMS, CATEGORIES = 24, 4
CONFIG = TrainConfig(EvolutionConfig(dim=16, window=8, hidden=32), epochs=12, learning_rate=1e-2, average=0.9)


def catalogue(items: int = ITEMS) -> tuple[list[str], ItemFeatures]:
    """Item i is of category i mod 4; its text says so too."""
    text = np.eye(CATEGORIES, 6, dtype=np.float32)[np.arange(items) % CATEGORIES]
    text += 0.1 * np.random.default_rng(0).normal(size=text.shape).astype(np.float32)
    categories = [["abcd"[at % CATEGORIES]] for at in range(items)]
    return [f"i{at}" for at in range(items)], ItemFeatures(text, categories, np.full(items, 2000))


def walks(users: int = 40, events: int = 12) -> InteractionLog:
    """Everybody goes from category to category, to any of its items: a, b, c, d, a, ..."""
    random = np.random.default_rng(0)
    category = (random.integers(0, CATEGORIES, users)[:, None] + np.arange(events)) % CATEGORIES
    items = category + CATEGORIES * random.integers(0, ITEMS // CATEGORIES, category.shape)
    n = users * events
    return InteractionLog(
        np.repeat(np.arange(users), events),
        items.ravel(),
        np.tile(np.arange(events) * 60_000, users),
        np.zeros(n, np.uint8),
        np.ones(n, np.float32),
    )


def next_categories(
    model: ServingModel, release: Release, last: int, ids: list[str], features: ItemFeatures
) -> list[int]:
    """Categories of the catalogue, best first, after an event with item ``last``."""
    known = model.project(*catalogue())
    one, cache = np.array([0]), model.new_cache(1)
    hidden = model.step(cache, one, known.input[[last]], one, np.zeros(1, np.uint8), np.ones(1, np.float32))
    logits = (model.user_vectors(hidden) @ model.project(ids, features).search.T)[0]
    return [int(at) % CATEGORIES for at in np.argsort(-logits)]


@pytest.fixture(scope="module")
def losses() -> list[float]:
    return []


@pytest.fixture(scope="module")
def release(losses: list[float]) -> Release:
    def note(epoch: int, epochs: int, loss: float) -> None:
        assert (epoch, epochs) == (len(losses) + 1, CONFIG.epochs)
        losses.append(loss)

    return train(walks(), *catalogue(), CONFIG, seed=3, text_encoder="encoder", progress=note)


def test_it_learns_what_comes_next(release: Release, losses: list[float]) -> None:
    assert len(losses) == CONFIG.epochs
    assert losses[-1] < losses[0] - 0.8, "knowing the category is worth log 4"
    model = ServingModel(release)
    for last in range(4):
        best = next_categories(model, release, last, *catalogue())
        assert best[:4] == [(last + 1) % CATEGORIES] * 4


def test_new_items_are_ranked_by_what_they_are(release: Release) -> None:
    ids, features = catalogue(8)
    best = next_categories(ServingModel(release), release, 0, [f"new-{item}" for item in ids], features)
    assert best[:2] == [1, 1]


def test_new_items_start_below_the_average_known_one(release: Release) -> None:
    ids, features = catalogue()
    model = ServingModel(release)
    known = model.project(ids, features).search[:, -1]
    new = model.project([f"new-{item}" for item in ids], features).search[:, -1]
    assert known.min() - 0.2 < new.mean() < known.mean()


def test_items_without_an_interaction_stay_new() -> None:
    release = train(walks(), *catalogue(ITEMS + 5), TrainConfig(CONFIG.model, epochs=1))
    assert release.item_ids == tuple(f"i{at}" for at in range(ITEMS))


def test_the_release_says_how_it_came_about(release: Release) -> None:
    assert release.text_encoder == "encoder"
    assert {"events": 480, "users": 40, "epochs": 12, "seed": 3}.items() <= release.facts.items()


def test_one_seed_one_release() -> None:
    config = TrainConfig(CONFIG.model, epochs=2)
    one, other = (train(walks(), *catalogue(), config, seed=seed) for seed in (0, 1))
    torch.rand(3)  # moves the global generator: it must have no say, and be left alone
    state = torch.random.get_rng_state()
    same = train(walks(), *catalogue(), config, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, array in one.arrays.items():
        np.testing.assert_allclose(same.arrays[name], array, atol=1e-5)
    assert not np.allclose(one.arrays["tower.project"], other.arrays["tower.project"])


def test_sampled_softmax_learns_too() -> None:
    config = TrainConfig(CONFIG.model, epochs=12, learning_rate=1e-2, average=0.9, full_softmax_items=10, negatives=8)
    release = train(walks(), *catalogue(), config)
    assert next_categories(ServingModel(release), release, 0, *catalogue())[:3] == [1, 1, 1]


@pytest.mark.parametrize("item", [ITEMS, -1])
def test_a_log_that_does_not_fit_its_items_is_refused(item: int) -> None:
    log = walks()
    log.items[:] = item
    with pytest.raises(ValueError, match=f"largest item row in the log is {item}"):
        train(log, *catalogue(), CONFIG)


@pytest.mark.parametrize(("field", "value"), [("epochs", 0), ("learning_rate", 0.0), ("tie_shuffle", 1.5)])
def test_a_field_outside_its_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{field: value})  # type: ignore[arg-type]
