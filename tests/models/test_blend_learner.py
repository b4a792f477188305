from dataclasses import replace

import numpy as np
import pytest

from models import sections
from models.blend import Blend, contexts, total
from models.blend_learner import BlendConfig, BlendLearner, Examples
from models.config import Float32, Int64
from models.cooccurrence import ServingCounts
from models.counts import Channel, Counts, CountsConfig, Learned, Table
from models.recent import Before, RecentItems

ITEMS = 30
COUNTS = CountsConfig(
    channels={"near": Channel(window=5, half_life=500), "next": Channel(window=1, backward=0)},
    tables={"near": Table("near", read=3), "next": Table("next", read=1)},
    neighbours=8,
    popularity=(200,),
    learned=None,
)
FEATURES = ["model", "near", "near.missing", "next", "next.missing", "popularity_200"]
CONFIG = BlendConfig(edges={"events": (4,), "gap_s": (0,), "repeat": (0.5,)}, modelled=6, counted=5, batch=16)


def examples(events: int, seed: int = 0) -> Examples:
    """Events whose item is most often the candidate that the model likes best, and never mind the rest."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(events, 8, len(FEATURES))).astype(np.float32)
    rows = np.argsort(random.random((events, ITEMS)), axis=1)[:, :8]
    rows[:, 6:][random.random((events, 2)) < 0.5] = -1
    features[rows < 0] = 0
    targets = np.where(rows >= 0, features[:, :, 0] + random.gumbel(size=rows.shape) / 2, -9).argmax(axis=1)
    targets[random.random(events) < 0.1] = -1
    return Examples(rows, features, random.integers(8, size=events), targets)


def loss(learner: BlendLearner, of: Examples) -> float:
    scores = learner.scores(of)
    at = np.flatnonzero(of.targets >= 0)
    odds = np.exp(scores[at] - scores[at].max(axis=1, keepdims=True))
    return float(-np.log(odds[np.arange(len(at)), of.targets[at]] / odds.sum(axis=1)).mean())


def test_it_learns_what_matters_and_what_does_not() -> None:
    learner, test = BlendLearner(replace(CONFIG, start={}, learning_rate=0.02), FEATURES), examples(500, seed=1)
    before = loss(learner, test)
    for seed in range(2, 20):
        learner.learn(examples(200, seed))
    assert loss(learner, test) < before - 0.5
    weights = learner.arrays()["blend.weights"]
    # The truth is 2 x model: the noise is Gumbel's, halved.
    assert 1.5 < weights[:, 0].mean() < 2.5
    assert np.abs(weights[:, 1:]).max() < 0.4


def test_the_surplus_is_the_gradient_of_each_loss_in_the_scores() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    learner._weights[:] = np.random.default_rng(5).normal(size=learner._weights.shape)
    of = examples(200)
    scores, surplus = learner.scores(of).astype(np.float64), learner.surplus(of)

    def losses(scores: np.ndarray) -> np.ndarray:
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(200), np.maximum(of.targets, 0)]

    for place in range(8):
        nudge = np.where(np.arange(8) == place, 1e-4, 0)
        slope = (losses(scores + nudge) - losses(scores - nudge)) / 2e-4
        expected = np.where((of.targets >= 0) & (of.rows[:, place] >= 0), slope, 0)
        np.testing.assert_allclose(surplus[:, place], expected, atol=1e-4)
    assert (of.targets < 0).any() and (of.rows < 0).any()


def test_a_learned_table_is_served_as_it_was_learned() -> None:
    """And what it was taught to correct is less wrong."""
    config = replace(COUNTS, learned=Learned(rate=0.3, read=3))
    counts, before, items = stream(config)
    learner = BlendLearner(replace(CONFIG, start={"model": 1.0, **counts.start}), counts.features)
    scores = np.random.default_rng(1).normal(size=(30, ITEMS)).astype(np.float32)
    nobody = np.empty(0, np.int64)

    def made() -> Examples:
        view, places = counts.serving(before.recent)
        score = lambda rows: np.take_along_axis(scores, np.maximum(rows, 0), axis=1)  # noqa: E731
        best = np.argsort(-scores, axis=1)[:, :10]
        everything = np.ones(ITEMS, np.bool_)
        return learner.examples(view, places, before, best, score, items, (nobody, nobody), everything)

    first = loss(learner, made())
    for _ in range(20):
        of = made()
        counts.correct(before.recent, of.rows, learner.surplus(of))
    of = made()
    assert loss(learner, of) < first - 0.3
    arrays = counts.arrays() | learner.arrays()
    sections.check(arrays, ITEMS, COUNTS.source)
    serving, blend = ServingCounts(arrays, COUNTS.source), Blend(arrays)
    model = np.where(of.rows >= 0, np.take_along_axis(scores, np.maximum(of.rows, 0), axis=1), -np.inf)
    columns = {name: known[of.rows] for name, known in serving.columns.items()}
    recent = before.recent[:, : serving.length]
    at = blend.contexts(before.events, before.gap_s, recent)
    terms = blend.terms(model.astype(np.float32), serving.sums(recent, of.rows), columns, at)
    assert (terms["learned"] < 0).any() and (terms["learned"] > 0).any()
    np.testing.assert_allclose(learner.scores(of), total(terms), atol=1e-5)


def test_the_step_is_along_the_gradient_of_the_mean_loss() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    learner._weights[:] = np.random.default_rng(5).normal(size=learner._weights.shape)
    of = examples(16)
    taken: list[np.ndarray] = []
    learner._descend = taken.append  # type: ignore[method-assign]
    learner.learn(of)
    for at in ((0, 0), (0, 3), (1 + int(of.contexts[0]), 1), (4, 5)):
        step = np.zeros_like(learner._weights)
        step[at] = 1e-2
        slope = []
        for sign in (1, -1):
            learner._weights += sign * step
            slope.append(loss(learner, of))
            learner._weights -= sign * step
        assert taken[0][at] == pytest.approx((slope[0] - slope[1]) / 2e-2, abs=1e-4)


def test_the_loss_is_that_of_before_each_step_and_misses_are_left_out() -> None:
    learner, of = BlendLearner(CONFIG, FEATURES), examples(16)
    expected = loss(learner, of)
    assert learner.learn(of) == pytest.approx(expected, abs=1e-5)
    weights = learner.arrays()["blend.weights"]
    assert np.isnan(learner.learn(replace(of, targets=np.full(16, -1))))
    np.testing.assert_array_equal(learner.arrays()["blend.weights"], weights)


def test_a_context_that_was_never_met_has_the_shared_weights() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    for seed in range(5):
        of = examples(100, seed)
        learner.learn(replace(of, contexts=of.contexts % 3))
    weights = learner.arrays()["blend.weights"]
    np.testing.assert_array_equal(weights[3], learner._weights[0].astype(np.float32))
    assert np.abs(weights[0] - weights[3]).max() > 1e-3
    assert weights[3, 0] > 1.1


def test_restored_it_goes_on_to_the_same_bits() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    learner.learn(examples(100, 1))
    other = BlendLearner.restore(CONFIG, FEATURES, learner.state())
    assert learner.learn(examples(100, 2)) == other.learn(examples(100, 2))
    for name, array in learner.state().items():
        np.testing.assert_array_equal(array, other.state()[name])
    with pytest.raises(ValueError, match=r"expected .1 . contexts, features. .9, 5."):
        BlendLearner.restore(CONFIG, FEATURES[:5], learner.state())


def test_a_state_is_not_changed_by_what_its_restored_learner_learns() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    state = {name: array.copy() for name, array in learner.state().items()}
    BlendLearner.restore(CONFIG, FEATURES, learner.state()).learn(examples(50))
    for name, array in learner.state().items():
        np.testing.assert_array_equal(array, state[name])


def test_it_goes_on_from_the_weights_of_a_release() -> None:
    learner, other = BlendLearner(CONFIG, FEATURES), BlendLearner(CONFIG, FEATURES)
    learner.learn(examples(100))
    weights = learner.arrays()["blend.weights"]
    fresh = BlendLearner(CONFIG, FEATURES)
    other.learn(examples(100, 1))
    for one in (other, fresh):
        one.adopt(weights)
        np.testing.assert_allclose(one.arrays()["blend.weights"], weights, atol=1e-6)
        one.learn(examples(100, 2))
    # Nothing is left of where it was going before.
    np.testing.assert_array_equal(other.arrays()["blend.weights"], fresh.arrays()["blend.weights"])
    with pytest.raises(ValueError, match=r"expected .8, 6."):
        other.adopt(weights[:2])


def stream(config: CountsConfig = COUNTS) -> tuple[Counts, Before, Int64]:
    """Counts of some hundred events, and thirty more that they do not know yet."""
    random = np.random.default_rng(0)
    counts, recent = Counts(config, ITEMS), RecentItems(config.length)
    users, items = random.integers(5, size=400), random.integers(ITEMS, size=400)
    before = recent.follow(users, items, np.arange(400) * 700)
    counts.learn(before.recent, items)
    users, items = random.integers(9, size=30), random.integers(-1, 6, size=30)
    return counts, recent.follow(users, items, np.arange(30) * 700 + 400_000), items


def made(learner: BlendLearner, modelled: int = 10) -> tuple[Examples, Counts, Before, Int64, Float32]:
    counts, before, items = stream()
    scores = np.random.default_rng(1).normal(size=(30, ITEMS)).astype(np.float32)
    view, places = counts.serving(before.recent)
    seen = np.nonzero(np.arange(ITEMS) % 7 == np.zeros((30, 1)))
    best = np.argsort(-np.where(np.arange(ITEMS) % 7 == 0, -np.inf, scores), axis=1)[:, :modelled]
    available = np.arange(ITEMS) != 4
    score = lambda rows: np.take_along_axis(scores, np.maximum(rows, 0), axis=1)  # noqa: E731
    return learner.examples(view, places, before, best, score, items, seen, available), counts, before, items, scores


def test_examples_are_what_a_worker_would_have_had() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    of, counts, before, items, _ = made(learner)
    assert counts.features == FEATURES
    assert of.rows.shape == (30, 6 + 5)
    for row, target, item in zip(of.rows, of.targets, items, strict=True):
        there = row[row >= 0]
        assert len(set(there)) == len(there) >= 6
        assert (there % 7).all()
        assert (target >= 0) == (item in there) and (target < 0 or row[target] == item)
    assert (of.targets >= 0).any() and (of.targets < 0).any()
    assert len({tuple(row[row >= 0]) for row in of.rows}) > 20
    assert not of.features[of.rows < 0].any()
    edges = {name: np.array(cuts, np.float32) for name, cuts in CONFIG.edges.items()}
    np.testing.assert_array_equal(of.contexts, contexts(edges, before.events, before.gap_s, before.recent[:, :3]))
    assert len(set(of.contexts)) > 2
    # Pairs are counted five events apart, but a worker keeps the last three.
    further = contexts(edges, before.events, before.gap_s, before.recent)
    assert before.recent.shape[1] == 5 and (further != of.contexts).any()


def test_scores_are_those_that_a_release_serves() -> None:
    learner = BlendLearner(CONFIG, FEATURES)
    learner.learn(examples(300))
    of, counts, before, _, scores = made(learner)
    arrays = counts.arrays() | learner.arrays()
    sections.check(arrays, ITEMS, COUNTS.source)
    serving, blend = ServingCounts(arrays, COUNTS.source), Blend(arrays)
    assert blend.features == FEATURES
    model = np.where(of.rows >= 0, np.take_along_axis(scores, np.maximum(of.rows, 0), axis=1), -np.inf)
    columns = {name: known[of.rows] for name, known in serving.columns.items()}
    recent = before.recent[:, : serving.length]
    at = blend.contexts(before.events, before.gap_s, recent)
    terms = blend.terms(model.astype(np.float32), serving.sums(recent, of.rows), columns, at)
    np.testing.assert_allclose(learner.scores(of), total(terms), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BlendConfig(learning_rate=0), "BlendConfig.learning_rate is 0"),
        (lambda: BlendConfig(batch=0), "BlendConfig.batch is 0"),
        (lambda: BlendConfig(edges={"weekday": (1,)}), "BlendConfig.edges has 'weekday'"),
        (lambda: BlendLearner(BlendConfig(start={"nothing": 1}), FEATURES), "BlendConfig.start has 'nothing'"),
    ],
)
def test_settings_out_of_range_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
