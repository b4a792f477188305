"""The world of a worker: the same for all that were told the same, in whichever steps."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from index.hashing import item_hash
from models.serving import ServingModel
from streams.contracts import ItemVector
from streams.world import Known, World
from tests import small


def fresh(items: dict[str, ItemVector]) -> World:
    return World(ServingModel(small.release()), small.START, Known(items, (len(items),)))


def withdrawn(number: int) -> ItemVector:
    return msgspec.structs.replace(small.item_vector(number), withdrawn=True)


def foreign(number: int) -> ItemVector:
    return msgspec.structs.replace(small.item_vector(number), encoder="another")


def shelf(world: World) -> list[str]:
    """Ids that exploration draws from, in the order that a number draws by."""
    return world.catalogue.ids(world.pool.slots)


CHANGES: dict[str, list[tuple[str, ItemVector | None]]] = {
    "items come": [("i40", small.item_vector(40)), ("i41", small.item_vector(41))],
    "one is withdrawn": [("i3", withdrawn(3))],
    "one is withdrawn and comes back": [("i3", withdrawn(3)), ("i3", small.item_vector(3))],
    "one is forgotten": [("i3", None)],
    "one is forgotten and comes back": [("i3", None), ("i3", small.item_vector(3))],
    "one is embedded by another encoder": [("i3", foreign(3))],
    "one changes": [("i3", small.item_vector(3, "ghost"))],
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES.keys())
def test_a_world_that_followed_changes_is_the_one_that_is_built_anew(
    changes: list[tuple[str, ItemVector | None]],
) -> None:
    followed, known = fresh(small.items()), small.items()
    for number, (item, vector) in enumerate(changes):
        followed.apply([(item, vector)], (number,))
        known.pop(item, None)
        if vector is not None:
            known[item] = vector
    anew = fresh(dict(reversed(known.items())))
    assert shelf(followed) == shelf(anew)
    assert shelf(anew) == sorted(shelf(anew), key=item_hash)
    ids = [f"i{number}" for number in range(50)]
    hashes = np.array([item_hash(item) for item in ids], np.uint64)
    for slots in ("slots", "slots_of_hashes"):
        one, two = (getattr(w.catalogue, slots)(ids if slots == "slots" else hashes) for w in (followed, anew))
        assert np.array_equal(one >= 0, two >= 0)
        np.testing.assert_allclose(followed.inputs[one[one >= 0]], anew.inputs[two[two >= 0]], atol=1e-5)
    queries = np.eye(followed.model.dim + 1, dtype=np.float32)
    found = [w.catalogue.ids(w.index.search(queries, 1)[0][:, 0]) for w in (followed, anew)]
    assert found[0] == found[1]
    assert len(followed.index) == len(anew.index)


def test_a_withdrawn_item_keeps_its_meaning_and_is_not_found() -> None:
    world = fresh(small.items())
    before, epoch = world.inputs[world.catalogue.slots(["i3"])].copy(), world.epoch
    world.apply([("i3", withdrawn(3))], (41,))
    slot = world.catalogue.slots(["i3"])
    np.testing.assert_allclose(world.inputs[slot], before, atol=1e-5)
    assert world.epoch == epoch
    assert "i3" not in shelf(world)
    assert np.isneginf(world.index.scores(np.ones((1, world.model.dim + 1), np.float32), slot[None])).all()


@pytest.mark.parametrize("last", [None, foreign(3)], ids=["forgotten", "of another encoder"])
def test_what_is_no_longer_known_makes_everything_derived_from_it_untrue(last: ItemVector | None) -> None:
    world = fresh(small.items())
    epoch = world.epoch
    world.apply([("i3", last)], (41,))
    assert world.epoch > epoch
    assert world.catalogue.slots(["i3"]).tolist() == [-1]
    world.apply([("never known", None)], (42,))
    assert world.epoch == epoch + 1
