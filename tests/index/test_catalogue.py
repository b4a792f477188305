from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import catalogue as catalogue_module
from index.catalogue import Catalogue
from index.hashing import item_hash

NAMES = st.sampled_from([f"item{i}" for i in range(8)])
CHANGES = st.lists(st.tuples(st.booleans(), st.lists(NAMES, max_size=4)), max_size=12)


@given(CHANGES)
def test_agrees_with_a_plain_model(changes: list[tuple[bool, list[str]]]) -> None:
    catalogue = Catalogue()
    order: list[str] = []
    alive: set[str] = set()
    features: dict[str, int] = {}
    for step, (add, names) in enumerate(changes):
        version = catalogue.version
        if add:
            catalogue.upsert(names, [step] * len(names))
            order += [name for name in dict.fromkeys(names) if name not in order]
            features.update(dict.fromkeys(names, step))
            changed = bool(names)
            alive |= set(names)
        else:
            gone = catalogue.delete(names)
            assert catalogue.ids(gone) == sorted(alive & set(names), key=order.index)
            changed = bool(alive & set(names))
            alive -= set(names)
        assert (catalogue.version > version) == changed
        assert catalogue.ids(range(len(catalogue))) == order
        assert catalogue.ids(catalogue.alive_slots()) == [name for name in order if name in alive]
        assert catalogue.features == [features[name] for name in order]
    expected = [order.index(name) if name in order else -1 for name in map("item{}".format, range(8))]
    assert catalogue.slots([f"item{i}" for i in range(8)]).tolist() == expected
    hashes = np.array([item_hash(f"item{i}") for i in range(8)], dtype=np.uint64)
    assert catalogue.slots_of_hashes(hashes).tolist() == expected
    assert catalogue.hashes.tolist() == [item_hash(name) for name in order]


def test_a_deleted_item_comes_back_in_its_slot() -> None:
    catalogue = Catalogue()
    catalogue.upsert(["a", "b"], [1, 2])
    catalogue.delete(["a"])
    assert catalogue.slots(["a"]).tolist() == [0]
    assert catalogue.alive.tolist() == [False, True]
    assert catalogue.upsert(["c", "a"], [3, 4]).tolist() == [2, 0]
    assert catalogue.alive.all()
    assert catalogue.features == [4, 2, 3]


def test_grows_past_its_first_capacity() -> None:
    catalogue = Catalogue()
    for start in range(0, 5000, 500):
        catalogue.upsert([str(i) for i in range(start, start + 500)], [None] * 500)
    assert len(catalogue.alive_slots()) == 5000
    assert catalogue.hashes[4321] == item_hash("4321")


def test_the_hash_is_blake2b_little_endian() -> None:
    digest = hashlib.blake2b("película".encode(), digest_size=8).digest()
    assert item_hash("película") == int.from_bytes(digest, "little")
    assert item_hash("a") == 3405396810240292928


@pytest.mark.parametrize("name", ["", "x" * 257, "é" * 129])
def test_bad_ids_change_nothing(name: str) -> None:
    catalogue = Catalogue()
    with pytest.raises(ValueError, match="expected 1 to 256"):
        catalogue.upsert(["good", name], [1, 2])
    assert len(catalogue) == catalogue.version == 0


def test_colliding_hashes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "item_hash", lambda name: len(name))
    catalogue = Catalogue()
    catalogue.upsert(["a"], [1])
    for names in (["b"], ["cc", "dd"]):
        with pytest.raises(ValueError, match="same 64-bit hash"):
            catalogue.upsert(names, [0] * len(names))
    assert len(catalogue) == 1


def test_bad_calls_are_named() -> None:
    catalogue = Catalogue()
    with pytest.raises(ValueError, match="features has 1 entries"):
        catalogue.upsert(["a", "b"], [1])
    with pytest.raises(IndexError):
        catalogue.ids([0])
    catalogue.upsert(["a"], [1])
    with pytest.raises(IndexError, match="slot is -1"):
        catalogue.ids([0, -1])


def test_a_forgotten_item_is_unknown_and_comes_back_in_another_slot() -> None:
    catalogue = Catalogue()
    catalogue.upsert(["a", "b"], [1, 2])
    hash_of_a = catalogue.hashes[:1].copy()
    assert catalogue.forget(["a", "never seen"]).tolist() == [0]
    assert catalogue.slots(["a"]).tolist() == catalogue.slots_of_hashes(hash_of_a).tolist() == [-1]
    assert catalogue.alive_slots().tolist() == [1]
    assert catalogue.upsert(["a"], [3]).tolist() == [2]
    assert catalogue.slots_of_hashes(hash_of_a).tolist() == [2]
    assert catalogue.forget(["a"]).tolist() == [2]
    assert catalogue.forget(["a"]).tolist() == []
