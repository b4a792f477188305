"""The loop closed through pipeline, fold and estimators, as a worker and a learner close it, without Kafka."""

from __future__ import annotations

import numpy as np

from policy.fairness import FairnessConfig
from streams.contracts import Interaction, Request
from streams.estimators import Estimators
from tests.small import START, record
from tests.streams.test_steering import FairBench, genre

ROUND_MS = 61_000
USERS = 40
LIKES = {"ghost": 0.9, "love": 0.1}
CONFIG = FairnessConfig({"liked": ["ghost"], "known": ["love"]}, users=("f",), bound=3.0, holdout=0.0)


def play(rounds: int, learns: bool) -> list[float]:
    """By round, what part of the exposure of either genre the liked one had; users click as they like."""
    bench, estimators, random = FairBench(CONFIG, epsilon=0.05), Estimators(), np.random.default_rng(0)
    offset, shares = 0, []
    for number in range(rounds):
        now = START + number * ROUND_MS
        names = [f"u{number}-{at}" for at in range(USERS)]  # new ones: what they did before plays no part
        bench.send(*(record(offset + at, Request(name, now, group="f")) for at, name in enumerate(names)))
        offset += USERS
        shown = [genre(item) for slate in bench.slates[-USERS:] for item in slate.items]
        shares.append(shown.count("ghost") / max(1, shown.count("love") + shown.count("ghost")))
        clicks = [
            Interaction(slate.user, item, now + 1000, slate=slate.slate)
            for slate in bench.slates[-USERS:]
            for item in slate.items
            if random.random() < LIKES.get(genre(item), 0.0)
        ]
        bench.send(*(record(offset + at, click) for at, click in enumerate(clicks)))
        offset += len(clicks)
        if learns:
            for outcome in bench.outcomes[estimators.outcomes :]:
                estimators.learn(outcome)
            snapshot = estimators.snapshot({0: estimators.outcomes}, now)
            bench.world.estimate(snapshot, estimators.frequency)
    return shares


def test_exposure_goes_to_what_is_liked_and_stays_where_it_was_without_what_is_learned() -> None:
    steered, alone = play(13, learns=True), play(4, learns=False)
    assert np.mean(alone) < 0.4
    assert np.mean(steered[-3:]) > np.mean(alone) + 0.2
    assert np.mean(steered[-3:]) > 0.6
