"""The gate's judge says of a release what the worker's pipeline would have done with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.continual import Cases, History
from models.release import Release
from streams.contracts import Interaction
from streams.judge import judge
from streams.pipeline import Pipeline
from streams.world import features_of
from tests import small
from tests.small import START

IDS = [f"i{number}" for number in range(44)]  # four that no release knows
USERS, K = 12, 5


def events(seed: int = 0) -> list[Interaction]:
    random = np.random.default_rng(seed)
    return [
        Interaction(f"u{number % USERS}", f"i{random.integers(40)}", START + 997 * number, action="rate", weight=2.0)
        for number in range(USERS * 7)
    ]


def histories(given: list[Interaction]) -> list[History]:
    found = []
    for user in range(USERS):
        own = [event for event in given if event.user == f"u{user}"]
        found.append(
            (
                np.array([IDS.index(event.item) for event in own]),
                np.array([event.time for event in own]),
                np.ones(len(own), np.uint8),
                np.full(len(own), 2, np.float32),
            )
        )
    return found


def served(release: Release, given: list[Interaction], *, filter_seen: bool) -> list[list[str]]:
    """Each user's K best candidates, as a worker has them after his last event."""
    world = small.world(made=release, count=len(IDS))
    config = small.config(k=K, injected=0)
    config = type(config)(config.topics, config.rules, config.policy, config.limits, filter_seen, config.cached_users)
    pipeline = Pipeline(config, lambda: world, clock=lambda: START + 10**6)
    pipeline.assigned(0, {})
    pipeline.apply(0, [small.record(offset, event) for offset, event in enumerate(given)], {})
    slates = pipeline.last
    assert slates is not None
    best = {}
    for row, touched in enumerate(slates.users):
        order = np.argsort(-slates.base[row], kind="stable")[:K]
        best[touched.user] = world.catalogue.ids(slates.candidates.slots[row, order])
    return [best[f"u{user}"] for user in range(USERS)]


@pytest.mark.parametrize("made", [small.release, small.blended], ids=["the model alone", "blended with counts"])
@pytest.mark.parametrize("filter_seen", [True, False])
def test_gains_are_those_of_what_the_worker_would_have_shown(made: Callable[[], Release], filter_seen: bool) -> None:
    given = events()
    best = served(made(), given, filter_seen=filter_seen)
    features = features_of([small.item_vector(number) for number in range(len(IDS))])
    asked = judge(small.config(k=K).policy, filter_seen=filter_seen)(made())
    for place in range(K):
        targets = np.array([IDS.index(shown[place]) for shown in best])
        gains = asked(Cases(IDS, features, histories(given), targets))
        assert gains == pytest.approx(np.full(USERS, 1 / np.log2(2 + place)))
    missed = np.array([next(at for at, item in enumerate(IDS) if item not in shown) for shown in best])
    assert not asked(Cases(IDS, features, histories(given), missed)).any()


def test_items_that_come_later_are_on_the_shelf_and_unknown_ones_in_a_history_stand_for_nothing() -> None:
    asked = judge(small.config(k=K).policy, filter_seen=False)(small.release())
    vectors = [small.item_vector(number) for number in range(len(IDS))]
    given = [(items, *rest) for items, *rest in histories(events())]
    few = asked(Cases(IDS[:40], features_of(vectors[:40]), given, np.zeros(USERS, np.int64)))
    assert len(few) == USERS
    for items, *_ in given:
        items[0] = -1
    targets = np.arange(USERS) % 4 + 40
    assert len(asked(Cases(IDS, features_of(vectors), given, targets))) == USERS


def test_without_cases_there_are_no_gains() -> None:
    features = features_of([small.item_vector(0)])
    asked = judge(small.config().policy, filter_seen=True)(small.release())
    assert len(asked(Cases(IDS[:1], features, [], np.empty(0, np.int64)))) == 0
