"""The world as it was at any position, forwards and backwards."""

from __future__ import annotations

import pytest

from evaluation.replay_world import ReleaseMissing
from streams.estimators import Estimators
from tests import small
from tests.evaluation.logged import Topics

RELEASE = small.release().id


@pytest.fixture
def topics() -> Topics:
    """Forty items, then one more, one changed, one forgotten."""
    topics = Topics()
    topics.tell("i40", small.item_vector(40))
    topics.tell("i5", small.item_vector(5, "ghost"))
    topics.tell("i9", None)
    return topics


def test_a_position_gives_its_items_in_whichever_order_it_is_asked_for(topics: Topics) -> None:
    worlds = topics.worlds()
    for end in (40, 43, 41, 42, 40, 43):
        world = worlds.at(RELEASE, (end,), None)
        anew = topics.worlds().at(RELEASE, (end,), None)
        assert world.position == (end,)
        assert sorted(world.catalogue.ids(world.catalogue.alive_slots())) == sorted(
            anew.catalogue.ids(anew.catalogue.alive_slots())
        )
        one, two = (w.inputs[w.catalogue.slots(["i5"])] for w in (world, anew))
        assert abs(one - two).max() < 1e-5


def test_an_estimator_is_taken_on_and_off(topics: Topics) -> None:
    estimators = Estimators()
    estimators.learn(small.outcome(["i1", "i2", "i3", "i4", "i5"]))
    snapshot = estimators.snapshot({0: 1}, small.START)
    topics.snapshots[snapshot.estimator] = snapshot
    worlds = topics.worlds()
    assert not worlds.at(RELEASE, (40,), None).log_popularity[:40].any()
    assert worlds.at(RELEASE, (40,), snapshot.estimator).log_popularity[:40].any()
    assert not worlds.at(RELEASE, (40,), None).log_popularity[:40].any()
    gone = worlds.at(RELEASE, (40,), "e9-gone")
    assert gone.estimator is not None and gone.estimator.estimator == "e9-gone"
    assert not worlds.knows_estimator("e9-gone")


def test_a_release_that_cannot_be_loaded_is_named(topics: Topics) -> None:
    worlds = topics.worlds()
    for _ in range(2):
        with pytest.raises(ReleaseMissing, match="release r9 cannot be loaded: no such folder"):
            worlds.at("r9", (40,), None)


def test_what_changed_later_is_known(topics: Topics) -> None:
    worlds = topics.worlds()
    assert worlds.changed_later("i5", (41,))
    assert not worlds.changed_later("i5", (42,))
    assert not worlds.changed_later("i6", (40,))
