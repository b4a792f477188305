from __future__ import annotations

import numpy as np

from index.categories import Categories


def named(categories: Categories, slots: list[int]) -> list[set[str]]:
    names = {number: name for name, number in categories.numbers.items()}
    return [{names[number] for number in row.tolist() if number >= 0} for row in categories.of(np.array(slots))]


def test_slots_have_what_was_last_said_of_them() -> None:
    categories = Categories()
    assert categories.of(np.array([0, -1])).tolist() == [[-1], [-1]]
    categories.put(np.array([2, 0]), [["a"], ["b", "a", "b"]])
    categories.put(np.array([5000]), [["a", "b", "c", "d"]])
    categories.put(np.array([2]), [["d"]])
    assert named(categories, [0, 1, 2, 5000, -1, 9999]) == [
        {"a", "b"},
        set(),
        {"d"},
        {"a", "b", "c", "d"},
        set(),
        set(),
    ]
    assert len(categories) == 4


def test_any_of_finds_items_of_one_of_the_names() -> None:
    categories = Categories()
    categories.put(np.arange(3), [["a"], ["b", "c"], []])
    slots = np.array([[0, 1], [2, -1]])
    assert categories.any_of(slots, ["c", "never heard of"]).tolist() == [[False, True], [False, False]]
    assert not categories.any_of(slots, []).any()
    assert not categories.any_of(slots, ["never heard of"]).any()
