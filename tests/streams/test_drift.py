"""How far interest has moved: against plain loops, and the same whoever has the state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.drift import DAY_MS
from policy.arrangement import Arrangement
from streams.drift import WEIGHTS, moves
from streams.recent import Recent
from streams.world import World
from tests import small
from tests.small import GENRES, START
from tests.streams.test_adjusting import bench, config
from tests.streams.test_pipeline import view

HOUR_MS = DAY_MS // 24


def remembered(world: World, events: list[tuple[int, int]], length: int = 24) -> Recent:
    """One user's events, (item, hours), oldest first; item -1 is not in the catalogue."""
    slots, times = np.full((2, 1, length), -1, np.int64)
    for age, (item, hours) in enumerate(reversed(events)):
        slots[0, age] = -1 if item < 0 else world.catalogue.slots([f"i{item}"])[0]
        times[0, age] = START + hours * HOUR_MS
    return Recent(slots, np.array([len(events)]), np.zeros(1, np.float32), times)


def interest(world: World, items: list[int]) -> tuple[np.ndarray, dict[str, float]]:
    """Direction and shares of topics of items, newest first."""
    vector, shares = np.zeros(world.model.dim), dict.fromkeys(GENRES, 0.0)
    for item, weight in zip(items, WEIGHTS, strict=False):
        vector += weight * world.inputs[world.catalogue.slots([f"i{item}"])[0]]
        shares[GENRES[item % len(GENRES)]] += weight
    return vector / np.linalg.norm(vector), {name: one / sum(shares.values()) for name, one in shares.items()}


@pytest.mark.parametrize(
    ("events", "before", "days"),
    [
        ([(0, 0), (4, 1), (1, 30), (5, 49)], [4, 0], 2.0),  # not (1, 30): that is not a day older than the last
        ([(0, 0), (4, 24), (1, 48)], [4, 0], 1.0),
        ([(0, 0), (4, 1), (1, 2), (5, 3)], [4, 0], 1.0),  # all of one day: the older half, as of a day
        ([(0, 0), (1, 1)], [0], 1.0),
        ([(number % 40, 3 * number) for number in range(24)], list(range(15, -1, -1)), 1.0),
    ],
)
def test_interest_is_set_against_that_of_a_day_before(
    events: list[tuple[int, int]], before: list[int], days: float
) -> None:
    world = small.world()
    now, shares = interest(world, [item for item, _ in reversed(events)])
    then, earlier = interest(world, before)
    made = moves(world, remembered(world, events))
    assert made.degrees[0] == pytest.approx(np.degrees(np.arccos(now @ then)) / days, abs=1e-3)
    changes = {name: (shares[name] - earlier[name]) / days for name in GENRES}
    assert made.topics[0] == pytest.approx({name: by for name, by in changes.items() if abs(by) > 1e-4}, abs=1e-4)
    sizes = [abs(by) for by in made.topics[0].values()]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("events", [[], [(1, 0)], [(-1, 0), (1, 30)], [(1, 0), (-1, 30), *[(-1, 31)] * 20]])
def test_nothing_is_said_of_who_has_nothing_to_set_against_each_other(events: list[tuple[int, int]]) -> None:
    made = moves(small.world(), remembered(small.world(), events))
    assert np.isnan(made.degrees[0])
    assert made.topics == [{}]


def test_users_do_not_touch_each_other() -> None:
    world = small.world()
    several = [remembered(world, [(user + at * step, 13 * at) for at in range(5)]) for user, step in ((0, 4), (1, 1))]
    together = moves(
        world,
        Recent(
            *(np.concatenate([getattr(one, name) for one in several]) for name in ("slots", "events", "gap_s", "times"))
        ),
    )
    alone = [moves(world, one) for one in several]
    np.testing.assert_allclose(together.degrees, [one.degrees[0] for one in alone], atol=1e-4)
    assert together.topics == [one.topics[0] for one in alone]
    assert together.degrees[0] != pytest.approx(together.degrees[1], abs=1)


def test_a_decision_tells_it_and_who_takes_over_says_the_same(tmp_path: Path) -> None:
    made = config(tmp_path, "", Arrangement(unsure=2.0), temperature=1.0)
    served = bench(made)
    for at, (loyal, changed) in enumerate([(0, 0), (4, 4), (8, 1), (12, 5)]):
        if at == 3:  # somebody else goes on, with the states alone
            states, served = served.states, bench(made)
            served.states.update(states)
        for number, (user, item) in enumerate((("loyal", loyal), ("changed", changed))):
            served.send(view(2 * at + number, user, item, (at - 3) * DAY_MS / 1000))
        if at == 0:
            assert [decision.drift for decision in served.decisions] == [None, None]
    one, other = served.decisions
    days = [[(0, 0), (4, 24), (8, 48), (12, 72)], [(0, 0), (4, 24), (1, 48), (5, 72)]]
    expected = [moves(served.world, remembered(served.world, events)) for events in days]
    assert [one.drift, other.drift] == [pytest.approx(made.degrees[0], abs=0.01) for made in expected]
    assert [one.drift_topics, other.drift_topics] == [made.topics[0] for made in expected]
    assert other.drift_topics["love"] > 0 > other.drift_topics["war"]
    assert other.temperature > one.temperature + 0.02
    assert served.pipeline.measures.drift.sum == pytest.approx(one.drift + other.drift, abs=0.1)  # type: ignore[operator]
