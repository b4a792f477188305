"""Questions, and how answers to them are judged, on a stream whose drift is known."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.drifting import DAY_MS, START_MS, Drifting, drifting
from evaluation.interest import HOUR_MS, Judged, judge, questions
from evaluation.stream import EventStream
from models.batches import InteractionLog
from models.config import EvolutionConfig
from models.horizon_learner import HorizonConfig
from models.learner import TrainConfig
from models.online import OnlineConfig, OnlineTrainer
from models.release import Release

TRAINING = TrainConfig(
    EvolutionConfig(dim=16, window=16, hidden=32), epochs=4, learning_rate=1e-2, average=0.9, mask_seen=False
)
CONFIG = OnlineConfig(
    TRAINING,
    steps=1,
    recent=6,
    replayed=6,
    horizon=HorizonConfig(hidden=32, warm_up=1024, passes=12, learning_rate=5e-3, average=0.95),
)


class Warm:
    """A trainer as evaluations see it; ``rounds`` are the events it was told, round by round."""

    def __init__(self, made: Drifting, cut: int, config: OnlineConfig = CONFIG) -> None:
        stream = made.stream
        self.trainer = OnlineTrainer(stream.log(0, cut), stream.item_ids, made.features, config, seed=1)
        self.rounds: list[int] = []

    def learn(self, log: InteractionLog, items: int) -> None:
        self.rounds.append(len(log))
        self.trainer.learn(log)

    def release(self) -> Release:
        return self.trainer.release()


def stream_of(times_h: list[float], users: list[int], items: list[int]) -> EventStream:
    n = len(times_h)
    times = (START_MS + np.array(times_h) * HOUR_MS).astype(np.int64)
    return EventStream(
        np.array(users),
        np.array(items),
        times,
        np.zeros(n, np.uint8),
        np.ones(n, np.float32),
        ["a", "b"],
        [f"i{at}" for at in range(9)],
        listed=9,
    )


def test_an_answer_is_what_came_from_half_the_horizon_to_twice_it() -> None:
    stream = stream_of([0, 0.4, 0.6, 1, 2, 2.1], [0] * 6, [0, 1, 2, 3, 4, 5])
    first = questions(stream, HOUR_MS)[0]
    assert (first.event, first.came.tolist(), first.last) == (0, [2, 3, 4], 4)


def test_users_are_not_mixed_and_who_does_not_come_back_is_not_asked() -> None:
    stream = stream_of([0, 0, 1, 1, 5], [0, 1, 1, 1, 0], [0, 1, 2, 3, 4])
    assert [(one.event, one.came.tolist()) for one in questions(stream, HOUR_MS)] == [(1, [2, 3])]


def test_nobody_is_asked_again_within_a_tenth_of_the_horizon_nor_amid_a_tie() -> None:
    stream = stream_of([0, 0, 0.05, 0.15, 1], [0] * 5, [0, 1, 2, 3, 4])
    assert [one.event for one in questions(stream, HOUR_MS)] == [1, 3]


@pytest.fixture(scope="module")
def trending() -> Drifting:
    return drifting("trending", users=16, days=36, events_a_day=4.0, topics=4, days_a_topic=6.0, seed=3)


@pytest.fixture(scope="module")
def told(trending: Drifting) -> tuple[Judged, Warm]:
    cut = len(trending.stream) * 2 // 3
    warm = Warm(trending, cut)
    (found,) = judge(
        trending.stream,
        trending.features,
        cut,
        warm,
        horizons={"6d": 6 * DAY_MS},
        filter_seen=False,
        truth=trending.truth,
    )
    return found, warm


def test_a_drift_that_has_a_rule_is_foreseen_where_no_change_and_a_line_are_wrong(told: tuple[Judged, Warm]) -> None:
    found, _ = told
    for measure in ("items", "topics"):
        for difference in found.compared(measure, replicates=200):
            assert difference.low > 0, (measure, difference)


def test_every_question_is_answered_by_every_arm(told: tuple[Judged, Warm], trending: Drifting) -> None:
    found, warm = told
    cut = len(trending.stream) * 2 // 3
    asked = [one for one in questions(trending.stream, 6 * DAY_MS) if one.event >= cut]
    assert found.users == [int(trending.stream.users[one.event]) for one in asked]
    assert {len(values) for of in found.values.values() for values in of.values()} == {len(asked)}
    assert sum(warm.rounds) == len(trending.stream) - cut


def test_a_release_without_a_head_is_not_judged(trending: Drifting) -> None:
    short = OnlineConfig(TrainConfig(TRAINING.model, epochs=1, mask_seen=False), horizon=None)
    with pytest.raises(ValueError, match="no head for later times"):
        judge(trending.stream, trending.features, 1000, Warm(trending, 1000, short), horizons={"1d": DAY_MS})


def test_events_follow_the_truth() -> None:
    made = drifting("weekly", users=3, days=70, events_a_day=30.0, topics=4, seed=1)
    stream = made.stream
    weekend = (stream.times_ms - START_MS) // DAY_MS % 7 >= 5
    for user in range(3):
        for when, day in ((weekend, 5), (~weekend, 0)):
            came = stream.items[(stream.users == user) & when] // 8
            truth = made.truth(user, START_MS + day * DAY_MS)
            np.testing.assert_allclose(np.bincount(came, minlength=4) / len(came), truth, atol=0.06)
        assert made.truth(user, START_MS + 5 * DAY_MS).argmax() != made.truth(user, START_MS).argmax()


def test_a_trend_goes_to_the_next_topic_at_constant_speed() -> None:
    made = drifting("trending", users=2, days=5, topics=5, days_a_topic=10.0)
    at = [made.truth(0, START_MS + round(days * DAY_MS)) for days in (0, 2.5, 10, 50)]
    assert all(one.sum() == pytest.approx(1, abs=1e-5) for one in at)
    np.testing.assert_allclose(np.roll(at[0], 1), at[2], atol=1e-4)
    np.testing.assert_allclose(at[0], at[3], atol=1e-4)
    assert np.abs(at[1] - at[0]).max() == pytest.approx(0.9 * 0.25, abs=0.01)
