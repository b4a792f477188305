"""What every store promises, held against a plain dict; and states that are found again by their mark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from streams.store import MemoryStores, Store, Stores, marked
from streams.stores import DiskConfig, DiskStores

Make = Callable[[], Stores]


def after_w(state: bytes) -> bytes | None:
    return state[1:3] if state.startswith(b"w") else None


@pytest.fixture(params=["memory", "disk"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Stores:
    if request.param == "memory":
        return MemoryStores(after_w)
    return DiskStores(DiskConfig(tmp_path, "state", memory_mib=16), after_w)


@pytest.fixture
def store(stores: Stores) -> Iterator[Store]:
    store = stores.open(0)
    yield store
    store.close()


def test_begins_empty(store: Store):
    assert (len(store), store.position, dict(store), store.get(b"a"), store.get(b"a", b"x")) == (0, 0, {}, None, b"x")
    assert b"a" not in store
    with pytest.raises(KeyError):
        store[b"a"]


keys = st.sampled_from([b"", b"a", b"m", b"s", b"w", b"\x00", b"\xff\xff", b"user-1", b"k" * 300])
states = st.one_of(st.none(), st.binary(max_size=8), st.just(b"w" + b"x" * 5000))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(keys, states, max_size=6), max_size=12))
def test_is_a_dict_with_a_position(store: Store, batches: list[dict[bytes, bytes | None]]):
    store.clear()
    model: dict[bytes, bytes] = {}
    for number, batch in enumerate(batches, start=1):
        store.take(batch, 10 * number)
        for key, state in batch.items():
            if state is None:
                model.pop(key, None)
            else:
                model[key] = state
        assert (dict(store), dict(store.items()), set(store)) == (model, model, set(model))
        assert (len(store), store.position) == (len(model), 10 * number)
        assert all(
            (key in store) == (key in model) and store.get(key) == model.get(key) for batch in batches for key in batch
        )
        assert dict(store.marked()) == {key: state[1:3] for key, state in model.items() if state[:1] == b"w"}


def test_a_key_may_be_what_the_store_uses_itself(store: Store):
    """The position is kept beside the states, and no key may reach it."""
    mine = {b"": b"1", b"m": b"2", b"s": b"3", b"about": b"4", b"\x00": b"5"}
    store.take(dict(mine), 7)
    assert (dict(store), store.position, len(store)) == (mine, 7, 5)
    store.take(dict.fromkeys(mine), 8)
    assert (dict(store), store.position, len(store)) == ({}, 8, 0)


def test_clear_forgets_everything(store: Store):
    store.take({b"a": b"wait"}, 7)
    store.clear("elsewhere")
    assert (dict(store), len(store), store.position, list(store.marked())) == ({}, 0, 0, [])
    store.take({b"b": b"1"}, 1)
    assert (dict(store), len(store)) == ({b"b": b"1"}, 1)


def test_partitions_do_not_know_each_other(stores: Stores):
    first, second = stores.open(1), stores.open(2)
    first.take({b"a": b"1"}, 1)
    second.take({b"a": b"2"}, 2)
    assert (first[b"a"], second[b"a"], first.position, second.position) == (b"1", b"2", 1, 2)
    first.close()
    second.close()


def test_marks_of_a_plain_mapping_or_of_a_store_that_keeps_others_are_made(store: Store):
    states = {b"a": b"wait", b"b": b"x"}
    store.take(dict(states), 1)
    assert dict(marked(states, after_w)) == dict(marked(store, after_w)) == {b"a": b"ai"}
    assert dict(marked(store, lambda state: state[:1])) == {b"a": b"w", b"b": b"x"}
