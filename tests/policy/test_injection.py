from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from policy.injection import Pool, inject

SLOTS = st.lists(st.integers(0, 15), max_size=12)


@given(
    st.sets(st.integers(0, 15)),
    st.lists(st.tuples(SLOTS, SLOTS), min_size=1, max_size=5),
    st.integers(0, 4),
    st.integers(0, 2**32),
)
def test_draws_only_and_all_of_what_is_eligible(
    alive: set[int], rows: list[tuple[list[int], list[int]]], count: int, seed: int
) -> None:
    retrieved = np.full((len(rows), 12), -1, dtype=np.int64)
    for row, (found, _) in enumerate(rows):
        retrieved[row, : len(found)] = found
    pairs = np.array([(row, slot) for row, (_, seen) in enumerate(rows) for slot in seen], dtype=np.int64).reshape(
        -1, 2
    )
    uniforms = np.random.default_rng(seed).random((len(rows), count))
    pool = Pool.of(np.array(sorted(alive), dtype=np.int64))
    slots, probability = inject(retrieved, pool, (pairs[:, 0], pairs[:, 1]), uniforms)
    for row, (found, seen) in enumerate(rows):
        eligible = alive - set(found) - set(seen)
        drawn = [slot for slot in slots[row].tolist() if slot >= 0]
        assert len(drawn) == len(set(drawn)) == min(count, len(eligible))
        assert set(drawn) <= eligible
        assert probability[row] == (min(1.0, count / len(eligible)) if eligible else 0.0)


def test_every_eligible_item_is_drawn_as_often_as_claimed() -> None:
    size = 30_000
    retrieved = np.tile(np.array([3, 7, -1]), (size, 1))
    rows = np.arange(size)
    pool = Pool.of(np.array([9, 1, 3, 4, 6, 7, 8], dtype=np.int64))
    uniforms = np.random.default_rng(2).random((size, 2))
    slots, probability = inject(retrieved, pool, (rows, np.full(size, 8)), uniforms)
    assert set(probability.tolist()) == {0.5}
    shares = np.bincount(slots.ravel(), minlength=10)[[1, 4, 6, 9]] / size
    np.testing.assert_allclose(shares, 0.5, atol=0.015)


def test_rows_do_not_depend_on_each_other() -> None:
    random = np.random.default_rng(4)
    retrieved = random.integers(-1, 50, (20, 5))
    uniforms = random.random((20, 3))
    pool = Pool.of(np.arange(0, 50, 2))
    nothing = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    whole, _ = inject(retrieved, pool, nothing, uniforms)
    single = [inject(retrieved[[row]], pool, nothing, uniforms[[row]])[0][0] for row in range(20)]
    assert np.array_equal(whole, np.stack(single))


def test_what_is_drawn_does_not_depend_on_the_slots_of_the_items() -> None:
    """The same items under other slots, their pool in the same order of items."""
    random = np.random.default_rng(5)
    slot = random.permutation(50)  # of each item, elsewhere
    retrieved = np.stack([random.permutation(50)[:6] for _ in range(30)])
    seen = (np.repeat(np.arange(30), 3), random.integers(0, 50, 90))
    uniforms = random.random((30, 3))
    here, _ = inject(retrieved, Pool.of(np.arange(50)), seen, uniforms)
    there, _ = inject(slot[retrieved], Pool.of(slot), (seen[0], slot[seen[1]]), uniforms)
    assert np.array_equal(slot[here], there)
