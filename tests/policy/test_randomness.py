from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy import randomness
from policy.randomness import SMALLEST, distinct_ranks, event_keys, item_uniforms, uniforms

MASK = 2**64 - 1


def philox_block(key: tuple[int, int], counter: int) -> list[int]:
    """Philox4x64-10 from its published description, in plain Python."""
    words = [counter >> (64 * i) & MASK for i in range(4)]
    k0, k1 = key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [(second >> 64) ^ words[1] ^ k0, second & MASK, (first >> 64) ^ words[3] ^ k1, first & MASK]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return words


def documented(seed: int, partition: int, draw: int) -> float:
    word = philox_block((seed, partition), draw // 4 + 1)[draw % 4]
    return max((word >> 11) * 2.0**-53, SMALLEST)


@pytest.mark.parametrize("offset", [0, 1, 7, 10**12])
def test_draws_are_as_documented(offset: int) -> None:
    drawn = uniforms(12345, 3, np.array([offset]), 7)
    assert drawn[0].tolist() == [documented(12345, 3, offset * 7 + i) for i in range(7)]


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=30, unique=True),
    st.integers(1, 9),
    st.data(),
)
def test_batching_changes_nothing(offsets: list[int], draws: int, data: st.DataObject) -> None:
    ascending = np.array(sorted(offsets), dtype=np.int64)
    whole = uniforms(1, 2, ascending, draws)
    cut = data.draw(st.integers(0, len(ascending)))
    parts = [uniforms(1, 2, part, draws) for part in (ascending[:cut], ascending[cut:])]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(whole, uniforms(1, 2, np.arange(201), draws)[ascending])


def test_streams_differ_by_seed_and_partition() -> None:
    first = uniforms(1, 0, np.arange(100), 10)
    assert not np.isin(first, uniforms(2, 0, np.arange(100), 10)).any()
    assert not np.isin(first, uniforms(1, 1, np.arange(100), 10)).any()


def test_draws_are_uniform_and_open() -> None:
    drawn = uniforms(0, 0, np.arange(1000), 100).ravel()
    assert drawn.min() > 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 45  # chi-square with 19 degrees of freedom: p = .0007


@pytest.mark.parametrize(
    ("seed", "partition", "offsets", "draws", "named"),
    [
        (-1, 0, [0], 1, "seed is -1"),
        (0, 2**64, [0], 1, "partition is"),
        (0, 0, [0], 0, "draws is 0"),
        (0, 0, [-1], 1, "offsets"),
        (0, 0, [3, 3], 1, "offsets"),
    ],
)
def test_bad_input_is_named(seed: int, partition: int, offsets: list[int], draws: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        uniforms(seed, partition, np.array(offsets), draws)


def test_a_bad_key_of_item_numbers_is_named() -> None:
    with pytest.raises(ValueError, match="purpose is -1"):
        event_keys(0, 0, np.arange(2), -1)


def test_a_zero_word_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(randomness, "_fill", lambda key, first, out: out.fill(0.0))
    assert (uniforms(0, 0, np.arange(2), 3) == 2.0**-54).all()


def test_no_offsets_give_no_rows() -> None:
    assert uniforms(0, 0, np.array([], dtype=np.int64), 5).shape == (0, 5)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 2**32))
def test_ranks_are_distinct_and_in_range(sizes: list[int], count: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).random((len(sizes), count))
    for row, size in zip(distinct_ranks(drawn, np.array(sizes)), sizes, strict=True):
        given_out = row[row >= 0].tolist()
        assert len(given_out) == min(size, count) == len(set(given_out))
        assert all(rank < size for rank in given_out)
        assert (row[min(size, count) :] == -1).all()


def test_every_ordered_pair_of_ranks_is_equally_likely() -> None:
    drawn = np.random.default_rng(0).random((40_000, 2))
    ranks = distinct_ranks(drawn, np.full(len(drawn), 5))
    counts = np.bincount(ranks[:, 0] * 5 + ranks[:, 1], minlength=25).reshape(5, 5)
    assert np.diag(counts).sum() == 0
    pairs = counts[~np.eye(5, dtype=bool)]
    assert ((pairs - 2000) ** 2 / 2000).sum() < 45


def test_the_largest_uniform_stays_in_range() -> None:
    largest = np.full((1, 1), np.nextafter(1.0, 0.0))
    for size in (1, 3, 2**20, 2**40 + 1):
        assert distinct_ranks(largest, np.array([size]))[0, 0] == size - 1


def splitmix(x: int) -> int:
    """One step of SplitMix64 from its published description, in plain Python."""
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def test_splitmix_gives_its_published_numbers() -> None:
    """The first outputs of java.util.SplittableRandom(0) and of Vigna's splitmix64.c with state 0."""
    assert [splitmix(at * 0x9E3779B97F4A7C15 & MASK) for at in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@pytest.mark.parametrize(("seed", "partition", "offset", "purpose"), [(0, 0, 0, 0), (2**64 - 1, 7, 10**12, 1)])
def test_an_items_number_is_as_documented(seed: int, partition: int, offset: int, purpose: int) -> None:
    items = [0, 1, MASK, 0x0123456789ABCDEF]
    keys = event_keys(seed, partition, np.array([offset]), purpose)
    drawn = item_uniforms(keys, np.array([items], np.uint64))
    key = splitmix(splitmix(splitmix(splitmix(seed) ^ purpose) ^ partition) ^ offset)
    assert drawn[0].tolist() == [max((splitmix(key ^ item) >> 11) * 2.0**-53, SMALLEST) for item in items]


def test_an_items_number_is_its_own_whatever_stands_beside_it() -> None:
    items = np.random.default_rng(0).integers(0, 2**64, (300, 40), dtype=np.uint64)
    keys = event_keys(1, 2, np.arange(300), 0)
    whole = item_uniforms(keys, items)
    order = np.random.default_rng(1).permutation(40)
    assert np.array_equal(item_uniforms(keys, items[:, order]), whole[:, order])
    assert np.array_equal(item_uniforms(keys[7:8], items[7:8, :3]), whole[7:8, :3])


@pytest.mark.parametrize("hashes", ["random", "counting"])
def test_item_numbers_are_uniform_and_independent(hashes: str) -> None:
    """Over items, over consecutive events, and between seeds, partitions and purposes; also for hashes that count."""
    items = np.arange(500, dtype=np.uint64)
    if hashes == "random":
        items = np.random.default_rng(3).integers(0, 2**64, 500, dtype=np.uint64)
    table = np.broadcast_to(items, (400, 500))

    def drawn(seed: int = 0, partition: int = 0, purpose: int = 0) -> np.ndarray:
        return item_uniforms(event_keys(seed, partition, np.arange(400), purpose), table)

    first = drawn()
    for one in (first, first[:, ::2] - first[:, 1::2], first[::2] - first[1::2]):
        one = one % 1  # a difference of two independent ones is uniform again, around the circle
        counts = np.histogram(one, bins=100, range=(0, 1))[0]
        expected = one.size / 100
        assert ((counts - expected) ** 2 / expected).sum() < 160  # chi-square, 99 degrees of freedom: p = 1e-4
    for other in (drawn(seed=1), drawn(partition=1), drawn(purpose=1), np.roll(first, 1, 0), np.roll(first, 1, 1)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 4 / np.sqrt(first.size)
    top = np.argmax(first, axis=1)  # a slate's first item, all scores equal: no item is favoured
    assert np.bincount(top, minlength=500).max() <= 8  # Poisson(0.8) over 500 items: p = 1e-4
    assert len(np.unique(first)) == first.size
