from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from index import faiss_index
from index.faiss_index import ItemIndex
from index.recall import recall_at
from tests.index.vectors import clustered

DIM = 6
Vectors = dict[int, NDArray[np.float32]]


def brute_force(model: Vectors, query: NDArray[np.float32], k: int, excluded: set[int]) -> list[int]:
    scored = [(-float(vector @ query), slot) for slot, vector in model.items() if slot not in excluded]
    return [slot for _, slot in sorted(scored)[:k]]


def flat(excluded: list[set[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = [(row, slot) for row, slots in enumerate(excluded) for slot in slots]
    rows, slots = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return rows, slots


def assert_same(
    index: ItemIndex, model: Vectors, queries: NDArray[np.float32], k: int, excluded: list[set[int]]
) -> None:
    slots, scores = index.search_excluding(queries, k, flat(excluded))
    for row, query in enumerate(queries):
        expected = brute_force(model, query, k, excluded[row])
        assert slots[row, : len(expected)].tolist() == expected
        assert (slots[row, len(expected) :] == -1).all()
        assert np.isneginf(scores[row, len(expected) :]).all()
        true = [model[slot] @ query for slot in expected]
        np.testing.assert_allclose(scores[row, : len(expected)], true, rtol=1e-4, atol=1e-5)
    assert len(index) == len(model)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=10)), max_size=10),
    st.integers(1, 12),
    st.integers(0, 2**32),
)
def test_agrees_with_brute_force_through_changes(changes: list[tuple[bool, list[int]]], k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    index, model = ItemIndex(DIM), dict[int, NDArray[np.float32]]()
    queries = random.standard_normal((4, DIM)).astype(np.float32)
    for add, slots in changes:
        if add:
            vectors = random.standard_normal((len(slots), DIM)).astype(np.float32)
            index.upsert(np.array(slots, dtype=np.int64), vectors)
            model.update(zip(slots, vectors, strict=True))
        else:
            index.delete(np.array(slots, dtype=np.int64))
            model = {slot: vector for slot, vector in model.items() if slot not in slots}
        excluded = [set(random.integers(0, 40, random.integers(0, 20)).tolist()) for _ in queries]
        assert_same(index, model, queries, k, excluded)
        assert_same(index, model, queries, k, [set() for _ in queries])


def approximate_index(count: int = 4000, nprobe: int = 8) -> tuple[ItemIndex, NDArray[np.float32]]:
    vectors = clustered(count, 16)
    index = ItemIndex(16, exact_below=1000, nprobe=nprobe)
    index.upsert(np.arange(count), vectors)
    return index, vectors


def test_the_inverted_file_recalls_what_is_near() -> None:
    index, _ = approximate_index()
    assert index.approximate
    assert recall_at(index, clustered(200, 16, seed=1), 50).mean() >= 0.95


def test_the_inverted_file_follows_upserts_and_deletes() -> None:
    index, vectors = approximate_index()
    query = clustered(1, 16, seed=2)
    best = index.search(query, 20)[0][0]
    index.delete(best[:10])
    assert not np.isin(index.search(query, 100)[0], best[:10]).any()
    index.upsert(best[:3], np.repeat(query, 3, axis=0))
    assert set(index.search(query, 3)[0][0].tolist()) == set(best[:3].tolist())
    index.upsert(best[:3], -vectors[best[:3]])
    index.upsert(np.array([9999]), query)
    found = index.search(query, 50)[0][0]
    assert found[0] == 9999
    assert not np.isin(found, best[:10]).any()
    assert len(index) == 4000 - 10 + 3 + 1


def test_the_inverted_file_never_returns_what_is_excluded_and_gives_k() -> None:
    index, _ = approximate_index(nprobe=1)
    queries = clustered(8, 16, seed=3)
    near = index.search_exact(queries, 700)[0]
    rows = np.repeat(np.arange(8), 700)
    slots, scores = index.search_excluding(queries, 30, (rows, near.ravel()))
    assert (slots >= 0).all()
    for row in range(8):
        assert not np.isin(slots[row], near[row]).any()
        assert len(set(slots[row].tolist())) == 30
    assert (np.diff(scores, axis=1) <= 0).all()
    assert not index._flags.any()


def test_the_inverted_file_gives_what_is_left_when_less_than_k() -> None:
    index, _ = approximate_index()
    rows, slots = np.zeros(3995, dtype=np.int64), np.arange(3995)
    found, _ = index.search_excluding(clustered(2, 16, seed=4), 10, (np.tile(rows, 2), np.tile(slots, 2)))
    assert sorted(found[0].tolist()) == [-1] * 5 + [3995, 3996, 3997, 3998, 3999]
    assert (found[1] >= 0).all()


def test_crossing_the_threshold_trains_and_growing_trains_again() -> None:
    vectors = clustered(5000, 16)
    index = ItemIndex(16, exact_below=1000)
    index.upsert(np.arange(999), vectors[:999])
    assert not index.approximate
    index.upsert(np.arange(999, 1100), vectors[999:1100])
    assert index.approximate
    index.upsert(np.arange(1100, 5000), vectors[1100:])
    assert index._inverted is not None
    assert index._inverted.trained_on == 5000
    assert recall_at(index, clustered(100, 16, seed=5), 20).mean() >= 0.95


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, _ = approximate_index()
    queries = clustered(9, 16, seed=6)
    excluded = (np.repeat(np.arange(9), 5), index.search(queries, 5)[0].ravel())
    whole, exact = index.search_excluding(queries, 20, excluded), index.search_exact(queries, 20)
    monkeypatch.setattr(faiss_index, "FLAG_BLOCK", 9000)
    monkeypatch.setattr(faiss_index, "SCORE_BLOCK", 9000)
    assert np.array_equal(whole[0], index.search_excluding(queries, 20, excluded)[0])
    assert np.array_equal(exact[0], index.search_exact(queries, 20)[0])


def test_scores_are_exact_inner_products() -> None:
    index, vectors = approximate_index()
    queries = clustered(3, 16, seed=7)
    slots = np.array([[0, 5, -1], [3999, 4000, 7], [1, 2, 10**6]])
    expected = np.einsum("bd,bcd->bc", queries, vectors[np.where(slots < 4000, slots, 0)])
    expected[(slots < 0) | (slots >= 4000)] = -np.inf
    np.testing.assert_allclose(index.scores(queries, slots), expected, rtol=1e-5, atol=1e-5)
    assert np.isneginf(ItemIndex(16).scores(queries, slots)).all()


def test_searches_run_while_vectors_change() -> None:
    index, vectors = approximate_index(2000)
    queries, stop, wrong = clustered(8, 16, seed=8), threading.Event(), []

    def search() -> None:
        while not stop.is_set():
            slots, _ = index.search(queries, 10)
            wrong.extend(row for row in slots.tolist() if len(set(row)) < 10 or min(row) < 0)

    searcher = threading.Thread(target=search)
    searcher.start()
    for start in range(0, 1000, 50):
        index.delete(np.arange(start, start + 50))
        index.upsert(np.arange(start, start + 50), vectors[start : start + 50])
    stop.set()
    searcher.join()
    assert not wrong


def test_an_empty_index_finds_nothing() -> None:
    slots, scores = ItemIndex(3).search(np.zeros((2, 3), np.float32), 4)
    assert (slots == -1).all()
    assert np.isneginf(scores).all()
    assert slots.shape == (2, 4)
    assert ItemIndex(3).search(np.zeros((0, 3), np.float32), 4)[0].shape == (0, 4)


def test_bad_input_is_named_and_changes_nothing() -> None:
    index = ItemIndex(3)
    good = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"vectors has shape \(2, 2\), expected \(n, 3\)"):
        index.upsert(np.arange(2), good[:, :2])
    with pytest.raises(ValueError, match=r"slots has shape \(1,\), expected \(2,\)"):
        index.upsert(np.arange(1), good)
    with pytest.raises(ValueError, match="slot is -1"):
        index.upsert(np.array([-1, 0]), good)
    with pytest.raises(ValueError, match="vectors holds NaN or infinity at row 1"):
        index.upsert(np.arange(2), np.array([[1, 1, 1], [1, np.nan, 1]], np.float32))
    with pytest.raises(ValueError, match="queries has shape"):
        index.search(np.ones((1, 4), np.float32), 1)
    with pytest.raises(ValueError, match="k is 0"):
        index.search(good, 0)
    with pytest.raises(ValueError, match="excluded has shapes"):
        index.search_excluding(good, 1, (np.arange(2), np.arange(3)))
    with pytest.raises(ValueError, match="excluded names query 0 to 2"):
        index.search_excluding(good, 1, (np.arange(3), np.arange(3)))
    with pytest.raises(ValueError, match="nprobe is 0"):
        ItemIndex(3, nprobe=0)
    assert len(index) == 0
