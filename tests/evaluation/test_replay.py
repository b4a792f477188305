"""Replays: the same log gives the same slates and states, what differs is found, what is gone is said."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from evaluation.replay import PartitionLog, Replay
from evaluation.replay_verdict import TOLERANCE, Replayed
from streams.contracts import Erase, Impression, Interaction, Request
from streams.estimators import Estimators
from streams.job import Record
from streams.pipeline import PipelineConfig
from streams.state import PARTITION_KEY, UserState, decode_user
from tests import small
from tests.evaluation.logged import Log, Topics, Worker, batched
from tests.small import START, FakeRecord, record

CONFIG = small.config(epsilon=0.1)


def events(count: int, seed: int = 0, users: int = 12) -> list[Record]:
    """Views, requests, impressions, erasures and rubbish of a few users; time now and then leaps past a window."""
    dice = random.Random(seed)
    made: list[Record] = []
    time = START
    for number in range(count):
        offset = number + number // 10  # gaps, as transaction markers leave them
        user = f"u{dice.randrange(users)}"
        time += dice.choice([10, 500, 500, 3_000, 70_000 if dice.random() < 0.1 else 5])
        kind = dice.random()
        if kind < 0.8:
            made.append(record(offset, Interaction(user, f"i{dice.randrange(48)}", time, weight=dice.choice([1, 2.5]))))
        elif kind < 0.88:
            made.append(record(offset, Request(user, time)))
        elif kind < 0.92:
            shown = [f"i{dice.randrange(40)}" for _ in range(3)]
            made.append(record(offset, Impression(user, time, list(dict.fromkeys(shown)))))
        elif kind < 0.95:
            made.append(record(offset, Erase(user, time)))
        else:
            made.append(FakeRecord(offset, user.encode(), b"{"))
    return made


def served(count: int = 240, config: PipelineConfig = CONFIG, seed: int = 0) -> tuple[Topics, Log]:
    """A stretch of log with a crash, a hand-over, a worker that is behind, items that come, go and change, estimates
    and a new release."""
    dice = random.Random(seed)
    topics, log = Topics(), Log()
    everything = events(count, seed)
    lots = [everything[at * count // 6 : (at + 1) * count // 6] for at in range(6)]

    def send(worker: Worker, lot: list[Record]) -> None:
        for batch in batched(lot, lambda: dice.choice([1, 1, 2, 5, 16, 40])):
            log.send(worker, *batch)

    first = Worker(topics, config)
    slow = Worker(topics, config)
    log.assign(first)
    send(first, lots[0])
    topics.tell("i40", small.item_vector(40))
    topics.tell("i5", small.item_vector(5, "ghost"))
    topics.tell("i7", replaced(small.item_vector(7)))
    topics.tell("i9", None)
    first.catch_up()
    send(first, lots[1])
    estimators = Estimators()
    for one in range(30):
        estimators.learn(small.outcome([f"i{(one + n) % 9}" for n in range(5)]))
    first.estimate(estimators.snapshot({0: 30}, START))
    send(first, lots[2])
    log.assign(slow)  # it has read neither items nor estimates
    send(slow, lots[3])
    again = Worker(topics, config)  # started anew after a crash
    again.estimate(estimators.snapshot({0: 30}, START))
    log.assign(again)
    send(again, lots[4])
    topics.tell("i41", small.item_vector(41))
    again.release(1)
    again.estimate(estimators.snapshot({0: 30}, START))
    send(again, lots[5])
    return topics, log


def replaced(vector: object) -> object:
    return msgspec.structs.replace(vector, withdrawn=True)  # type: ignore[type-var]


def replay(topics: Topics, log: PartitionLog, **options: object) -> tuple[Replay, list[Replayed]]:
    made = Replay(CONFIG, topics.worlds(), **options)  # type: ignore[arg-type]
    return made, list(made.run(log))


def without_model_numbers(state: bytes) -> UserState:
    found = decode_user(state)
    for slate in found.slates:
        slate.conditional = slate.propensity = slate.inclusion = slate.unshown_inclusion = None
    return found


@pytest.mark.parametrize("largest", [1, 64])
def test_a_stretch_with_a_crash_a_hand_over_and_a_release_comes_out_the_same(largest: int) -> None:
    topics, log = served()
    made, found = replay(topics, log.partition_log(), largest=largest)
    assert len(found) == len(log.decisions) > 100
    assert all(one.choice for one in found)
    assert Counter(one.verdict for one in found).keys() <= {"same", "near tie"}
    assert sum(one.verdict == "same" for one in found) > 0.98 * len(found)
    assert max(one.base_error or 0 for one in found) < TOLERANCE
    assert max(one.correction_error or 0 for one in found) < TOLERANCE
    assert len({one.recorded.release for one in found}) == 2
    assert len({one.recorded.estimator for one in found}) == 2
    assert (made.unrecorded, made.dead_differences, made.conflicts) == ([], [], [])
    assert made.states[0].keys() == log.states.keys()
    assert made.states[0][PARTITION_KEY] == log.states[PARTITION_KEY]
    for key in log.states.keys() - {PARTITION_KEY}:
        assert without_model_numbers(made.states[0][key]) == without_model_numbers(log.states[key])
