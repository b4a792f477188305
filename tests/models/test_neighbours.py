from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.neighbours import NeighbourLists

ITEMS = 6
Pair = tuple[int, int, float]
pairs = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, ITEMS - 1), st.integers(1, 1000).map(float)), max_size=40
)


def add(lists: NeighbourLists, batch: list[Pair]) -> None:
    rows, columns = (np.array([pair[at] for pair in batch], np.int64) for at in (0, 1))
    values = np.array([pair[2] for pair in batch], np.float32)
    lists.add(rows, columns, np.stack([values, 2 * values], axis=1))


def kept(lists: NeighbourLists) -> list[dict[int, float]]:
    found = []
    for neighbours, values in zip(lists.neighbours, lists.values, strict=True):
        there = neighbours >= 0
        assert len(set(neighbours[there])) == there.sum()
        assert not values[~there].any()
        np.testing.assert_array_equal(values[:, 1], 2 * values[:, 0])
        found.append(dict(zip(neighbours[there].tolist(), values[there, 0].tolist(), strict=True)))
    return found


class Plain:
    """The same with dictionaries."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.rows: list[dict[int, float]] = [{} for _ in range(ITEMS)]

    def add(self, batch: list[Pair]) -> None:
        summed: defaultdict[tuple[int, int], float] = defaultdict(float)
        for row, column, value in batch:
            summed[row, column] += value
        for (row, column), value in summed.items():
            self.rows[row][column] = self.rows[row].get(column, 0) + value
        for at, row in enumerate(self.rows):
            self.rows[at] = dict(sorted(row.items(), key=lambda pair: -pair[1])[: self.most])


@given(st.lists(pairs, max_size=6))
def test_rows_with_room_for_all_hold_what_dictionaries_hold(batches: list[list[Pair]]) -> None:
    lists, plain = NeighbourLists(ITEMS, ITEMS, 2), Plain(ITEMS)
    for batch in batches:
        add(lists, batch)
        plain.add(batch)
    assert kept(lists) == plain.rows


@given(st.lists(pairs, max_size=6), st.integers(1, 4))
def test_full_rows_keep_their_strongest(batches: list[list[Pair]], most: int) -> None:
    lists, plain = NeighbourLists(ITEMS, most, 2), Plain(most)
    for batch in batches:
        add(lists, batch)
        plain.add(batch)
        # Which of equally strong pairs stays is open, but not how strong the row is.
        for row, expected in zip(kept(lists), plain.rows, strict=True):
            assert sorted(row.values()) == sorted(expected.values())
        plain.rows = kept(lists)


def test_a_pair_that_only_other_values_know_takes_an_empty_place_and_yields_to_any_other() -> None:
    lists = NeighbourLists(3, 1, 2)
    lists.add(np.array([0]), np.array([1]), np.array([[0, 5]], np.float32))
    assert lists.neighbours[0].tolist() == [1]
    lists.add(np.array([0]), np.array([2]), np.array([[1, 1]], np.float32))
    assert lists.neighbours[0].tolist() == [2]
    assert lists.values[0].tolist() == [[1, 1]]


def test_growing_keeps_what_is_there() -> None:
    lists = NeighbourLists(2, 2, 2)
    add(lists, [(0, 1, 3.0)])
    lists.grow(4)
    add(lists, [(3, 0, 1.0), (0, 1, 2.0)])
    assert kept(lists) == [{1: 5.0}, {}, {}, {0: 1.0}]
    lists.grow(1)
    assert len(lists) == 4


def test_scaling_fades_pairs_until_they_give_their_places_away() -> None:
    lists = NeighbourLists(2, 2, 2)
    add(lists, [(0, 1, 4.0), (1, 0, 1e-10)])
    lists.scale(np.array([0.5, 0.5], np.float32))
    assert kept(lists)[0] == {1: 2.0}
    lists.scale(np.array([1e-9, 1e-9], np.float32))
    assert [len(row) for row in kept(lists)] == [1, 0]
