"""Pairs, and the head that learns from them: users who in an hour turn from one topic to the next."""

from pathlib import Path

import numpy as np
import pytest

from models.batches import InteractionLog
from models.config import EvolutionConfig, Float32
from models.exemplars import Exemplars
from models.features import ItemFeatures
from models.horizon_cases import draw
from models.horizon_learner import HorizonConfig
from models.learner import TrainConfig
from models.online import OnlineConfig, OnlineTrainer
from models.release import Release
from models.serving import ServingModel

TOPICS, ITEMS, HOUR = 4, 16, 3_600_000
TRAINING = TrainConfig(
    EvolutionConfig(dim=16, window=8, hidden=32), epochs=3, learning_rate=1e-2, average=0.9, mask_seen=False
)
HEAD = HorizonConfig(hidden=16, warm_up=512, passes=12, learning_rate=1e-2, average=0.9)
CONFIG = OnlineConfig(TRAINING, steps=1, horizon=HEAD)


def turning(users: int = 30, hours: int = 5, an_hour: int = 4, first: int = 0) -> InteractionLog:
    """In each hour a user has ``an_hour`` events within a minute, of one topic; in the next one of the next topic."""
    random = np.random.default_rng(first)
    hour = np.repeat(np.arange(hours), users * an_hour)
    user = np.tile(np.repeat(np.arange(users), an_hour), hours)
    topic = (user + hour) % TOPICS
    times = 10**12 + hour * HOUR + np.tile(np.arange(an_hour) * 15_000, users * hours)
    order = np.argsort(times, kind="stable")
    items = topic + TOPICS * random.integers(0, ITEMS // TOPICS, len(topic))
    n = len(user)
    actions, weights = np.zeros(n, np.uint8), np.ones(n, np.float32)
    return InteractionLog((first + user)[order], items[order], times[order], actions, weights)


def catalogue() -> tuple[list[str], ItemFeatures]:
    names = [[f"topic {at % TOPICS}"] for at in range(ITEMS)]
    text = np.zeros((ITEMS, 0), np.float32)
    return [f"i{at}" for at in range(ITEMS)], ItemFeatures(text, names, np.zeros(ITEMS, np.int64))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainers") / "warm"
    OnlineTrainer(turning(), *catalogue(), CONFIG, seed=1).save(folder)
    return folder


def topics_after(release: Release, topic: int, ahead_ms: int) -> Float32:
    """Shares of the topics among the items that speak to somebody who has had three events of one topic."""
    model = ServingModel(release)
    vectors = model.project(*catalogue())
    rows = [np.array([topic, topic + TOPICS, topic + 2 * TOPICS])]
    now = np.array([10**12 + 3 * HOUR])
    hidden = model.rebuild(
        model.new_cache(1),
        np.array([0]),
        [vectors.input[rows[0]]],
        [now[0] + np.array([-30_000, -15_000, 0])],
        [np.zeros(3, np.uint8)],
        [np.ones(3, np.float32)],
    )
    logits = (model.future_vectors(hidden, now, np.array([ahead_ms])) @ vectors.search.T)[0]
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    found: Float32 = np.bincount(np.arange(ITEMS) % TOPICS, weights=chances).astype(np.float32)
    return found


def remembered(log: InteractionLog) -> Exemplars:
    exemplars = Exemplars(10_000)
    exemplars.add(log)
    return exemplars


def test_a_case_is_a_state_and_what_came_around_the_time_asked() -> None:
    log = turning()
    cases = draw(remembered(log), 200, np.random.default_rng(0))
    assert 100 < len(cases) <= 200  # at some distances there is nobody
    assert (log.times_ms[cases.ends] == cases.now_ms).all()
    for row in range(len(cases)):
        came = cases.items[cases.rows == row]
        after = log.times_ms - cases.now_ms[row]
        there = (log.users == log.users[cases.ends[row]]) & (after > cases.ahead_ms[row] / 2)
        there &= after <= 2 * cases.ahead_ms[row]
        possible = log.items[there].tolist()
        for item in came.tolist():
            possible.remove(item)  # each at most as often as it came
    assert len(np.unique(cases.rows)) > 0.8 * len(cases)


def test_cases_have_every_distance_that_there_is() -> None:
    cases = draw(remembered(turning()), 500, np.random.default_rng(0))
    hours = cases.ahead_ms / HOUR
    assert hours.min() < 1 < 3 < hours.max()


def test_erased_users_are_in_no_case() -> None:
    log, exemplars = turning(), remembered(turning())
    exemplars.forget(np.arange(0, 30, 2))
    cases = draw(exemplars, 300, np.random.default_rng(0))
    assert len(cases)
    assert (log.users[cases.ends] % 2 == 1).all()


@pytest.mark.parametrize("log", [turning(hours=1, an_hour=1), turning().part(slice(0, 0))])
def test_who_never_comes_back_gives_no_case(log: InteractionLog) -> None:
    assert len(draw(remembered(log), 50, np.random.default_rng(0))) == 0


def test_the_head_tells_what_comes_in_an_hour_and_the_vector_what_comes_next(warm: Path) -> None:
    release = OnlineTrainer.load(warm).release()
    for topic in range(TOPICS):
        next_, in_an_hour = (topics_after(release, topic, ahead) for ahead in (0, HOUR))
        assert next_.argmax() == topic
        assert in_an_hour.argmax() == (topic + 1) % TOPICS
        assert in_an_hour[(topic + 1) % TOPICS] > 0.5


def test_the_model_itself_does_not_learn_from_it() -> None:
    short = TrainConfig(TRAINING.model, epochs=1, mask_seen=False)
    with_, without = (
        OnlineTrainer(turning(users=8), *catalogue(), OnlineConfig(short, horizon=horizon), seed=1).release().arrays
        for horizon in (HorizonConfig(hidden=16, warm_up=64, passes=1), None)
    )
    assert {name for name in with_ if not name.startswith("horizon.")} == without.keys()
    assert all((with_[name] == array).all() for name, array in without.items())


def test_rounds_teach_the_head_and_go_on_exactly_after_a_restart(warm: Path, tmp_path: Path) -> None:
    trainer, again = OnlineTrainer.load(warm), OnlineTrainer.load(warm)
    before = trainer.release().arrays
    trainer.learn(turning(users=10, first=100))
    again.learn(turning(users=10, first=100))
    again.save(tmp_path / "saved")
    again = OnlineTrainer.load(tmp_path / "saved")
    for one in (trainer, again):
        one.learn(turning(users=10, first=200))
    found, resumed = trainer.release().arrays, again.release().arrays
    assert all((found[name] == resumed[name]).all() for name in found)
    changed = {name for name in found if name.startswith("horizon.") and (found[name] != before[name]).any()}
    assert {"horizon.shift", "horizon.up", "horizon.down", "horizon.views", "horizon.everybody"} <= changed


def test_everybodys_topics_are_those_of_the_newest_events(warm: Path) -> None:
    config = HorizonConfig(hidden=16, warm_up=0, memory=20)
    trainer = OnlineTrainer(turning(users=4), *catalogue(), OnlineConfig(TRAINING, steps=1, horizon=config), seed=1)
    log = turning(users=10, first=100)
    log.items[:] = 2
    trainer.learn(log)
    everybody = trainer.release().arrays["horizon.everybody"]
    assert everybody.sum() == pytest.approx(1, abs=1e-5)
    assert everybody[2] > 0.99
