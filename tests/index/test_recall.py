from __future__ import annotations

import numpy as np
import pytest

from index.faiss_index import ItemIndex
from index.recall import RecallMonitor, recall_at
from tests.index.vectors import clustered


def approximate(nprobe: int) -> ItemIndex:
    index = ItemIndex(16, exact_below=1000, nprobe=nprobe)
    index.upsert(np.arange(4000), clustered(4000, 16))
    return index


def test_exact_search_recalls_everything() -> None:
    index = ItemIndex(16)
    index.upsert(np.arange(50), clustered(50, 16))
    assert (recall_at(index, clustered(10, 16, seed=1), 80) == 1).all()
    assert (recall_at(ItemIndex(16), clustered(10, 16, seed=1), 5) == 1).all()


def test_recall_is_the_share_found() -> None:
    queries = np.random.default_rng(0).standard_normal((50, 16)).astype(np.float32)
    few, many = recall_at(approximate(1), queries, 50), recall_at(approximate(64), queries, 50)
    assert few.mean() < 0.9 < many.mean()
    index = approximate(1)
    found, true = index.search(queries, 50)[0], index.search_exact(queries, 50)[0]
    shares = [len(set(f) & set(t)) / 50 for f, t in zip(found.tolist(), true.tolist(), strict=True)]
    assert few.tolist() == shares


def test_monitor_samples_uniformly_and_starts_anew() -> None:
    monitor = RecallMonitor(k=10, capacity=100, seed=1)
    index = approximate(64)
    assert monitor.measure(index) is None
    stream = clustered(1000, 16, seed=2)
    stream[:, 0] = np.arange(1000)
    for start in range(0, 1000, 64):
        monitor.observe(stream[start : start + 64])
    places = [query[0] for query in monitor._sample]
    assert len(set(places)) == 100
    assert 380 < np.mean(places) < 620
    measured = monitor.measure(index)
    assert measured is not None
    assert measured.queries == 100
    assert measured.mean > 0.95
    assert measured.fifth_percentile > 0.9
    assert monitor.measure(index) is None


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        RecallMonitor(k=1, capacity=0)
