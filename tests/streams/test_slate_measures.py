"""What slates are like: alike or not, of how much of the catalogue, over a change of release too."""

from __future__ import annotations

import numpy as np
import pytest

from streams.slate_measures import REACH_SECONDS, RECALL_EVERY_S, SlateMeasures
from streams.world import World
from tests import small

NOBODY = np.array([False])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def show(measures: SlateMeasures, world: World, *items: str, uniform: bool = False, covered: int = 1) -> None:
    vectors = np.ones((1, world.index.dim), np.float32)
    measures.add(world, vectors, world.catalogue.slots(items)[None], np.array([uniform]), covered)


def test_slates_count_by_who_chose_and_events_that_share_one(clock: Clock) -> None:
    measures, world = SlateMeasures(5, clock), small.world()
    show(measures, world, "i1", "i2")
    show(measures, world, "i1", "i2", uniform=True, covered=4)
    assert measures.slates == {"policy": 1, "uniform": 1}
    assert measures.coalesced == 3


def test_items_of_one_genre_are_more_alike_than_of_all(clock: Clock) -> None:
    world = small.world()
    found = []
    for items in (("i0", "i4", "i8"), ("i0", "i1", "i2")):
        measures = SlateMeasures(5, clock)
        show(measures, world, *items)
        assert measures.diversity.cumulative()[-1] == 1
        found.append(measures.diversity.sum)
    assert 0 <= found[0] < found[1] - 0.1 <= 1


def test_diversity_is_the_mean_over_pairs(clock: Clock) -> None:
    world, measures = small.world(), SlateMeasures(5, clock)
    show(measures, world, "i0", "i1", "i2")
    rows = world.inputs[world.catalogue.slots(["i0", "i1", "i2"])]
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [(1 - float(unit[a] @ unit[b])) / 2 for a, b in ((0, 1), (0, 2), (1, 2))]
    assert measures.diversity.sum == pytest.approx(np.mean(pairs), abs=1e-5)


def test_reach_is_of_late_and_outlives_a_release(clock: Clock) -> None:
    measures, world = SlateMeasures(5, clock), small.world()
    assert measures.reach() is None
    show(measures, world, "i1", "i2", "i3", "i1")
    assert measures.reach() == 3 / 40
    clock.now += REACH_SECONDS - 1
    other = small.world(1, count=50)  # other slots may stand for the same items
    show(measures, other, "i45")
    assert measures.reach() == 4 / 50
    clock.now += 2
    assert measures.reach() == 1 / 50


def test_reach_grows_with_the_catalogue(clock: Clock) -> None:
    measures, world = SlateMeasures(5, clock), small.world()
    show(measures, world, "i1")
    world.apply([(f"i{number}", small.item_vector(number)) for number in range(40, 400)], (400,))
    show(measures, world, "i399")
    assert measures.reach() == 2 / 400


def test_an_index_that_finds_nothing_of_what_is_nearest_has_a_recall_of_nought(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures, world = SlateMeasures(5, clock), small.world()
    show(measures, world, "i1")
    assert measures.recall is None
    clock.now += 2
    show(measures, world, "i1")
    assert measures.recall is not None and measures.recall.mean == 1.0 and measures.recall.queries == 2
    monkeypatch.setattr(world.index, "search", lambda queries, k: (np.full((len(queries), k), -1), None))
    show(measures, world, "i1")
    assert measures.recall.mean == 1.0  # not yet due
    clock.now += RECALL_EVERY_S
    show(measures, world, "i1")
    assert measures.recall.mean == 0.0 and measures.recall_at == clock.now
