"""Counts in service beside sums made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models import cooccurrence
from models.cooccurrence import ServingCounts
from models.sections import Arrays
from tests import counted

ITEMS = 60


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return counted.sections_of(ITEMS)


@pytest.fixture(params=[10**6, 2 * ITEMS + 2], ids=["one block", "blocks of two"])
def counts(arrays: Arrays, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ServingCounts:
    monkeypatch.setattr(cooccurrence, "PLACES", request.param)
    return ServingCounts(arrays, "window")


def histories(users: int, length: int, seed: int = 0) -> np.ndarray:
    """Rows of last items, newest first: unknown ones in between, short ones, repeats, and nobody's."""
    random = np.random.default_rng(seed)
    recent = random.integers(-1, ITEMS, (users, length))
    recent[np.arange(length) >= random.integers(0, length + 1, users)[:, None]] = -1
    recent[0] = -1
    recent[1] = 7
    return recent


def by_hand(arrays: Arrays, table: str, recent: np.ndarray, newest: int = 99, strongest: int = 99) -> np.ndarray:
    """[B, n] in plain loops."""
    of = next(name for name, tables in counted.LISTS.items() if table in tables)
    neighbours = arrays[f"counts.{of}.neighbours"]
    values, ages = (arrays[f"counts.{of}.{table}.{part}"] for part in ("values", "ages"))
    sums = np.zeros((len(recent), ITEMS), np.float32)
    for user, items in enumerate(recent):
        for item, age in zip(items[: min(len(ages), newest)], ages, strict=False):
            for place in sorted(range(neighbours.shape[1]), key=lambda at: -values[item, at])[:strongest]:
                if item >= 0 and neighbours[item, place] >= 0:
                    sums[user, neighbours[item, place]] += np.float32(age * values[item, place])
    return sums


@pytest.mark.parametrize("length", [1, 3, 5, 9])
def test_sums_are_those_made_by_hand(counts: ServingCounts, arrays: Arrays, length: int) -> None:
    recent = histories(11, length)
    candidates = np.argsort(np.random.default_rng(1).random((11, ITEMS)), axis=1)[:, :25]
    candidates[3, 4:9] = -1
    found = counts.sums(recent, candidates)
    assert sorted(found) == ["after", "again", "window"]
    for table, sums in found.items():
        expected = np.take_along_axis(by_hand(arrays, table, recent), candidates, axis=1)
        np.testing.assert_allclose(sums, np.where(candidates >= 0, expected, 0), rtol=1e-6)
        assert sums.any()


def test_the_best_are_the_largest_that_are_allowed_and_ties_go_by_row(counts: ServingCounts, arrays: Arrays) -> None:
    recent = histories(40, 5)
    random = np.random.default_rng(2)
    barred = (random.integers(0, 40, 200), random.integers(0, ITEMS, 200))
    available = random.random(ITEMS) < 0.8
    sums = by_hand(arrays, "window", recent)
    sums[barred] = 0
    sums[:, ~available] = 0
    ties = 0
    for most in (1, 4, 10, ITEMS):
        found = counts.candidates(recent, most, barred, available)
        for own, rows in zip(sums, found, strict=True):
            order = sorted(np.flatnonzero(own > 0), key=lambda row: (-own[row], row))
            assert rows.tolist() == (order[:most] + [-1] * most)[:most]
            ties += len(order) > most and own[order[most - 1]] == own[order[most]]
    assert ties > 10


def test_candidates_are_the_strongest_neighbours_of_the_newest_items(
    arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "NEWEST", 3)
    monkeypatch.setattr(cooccurrence, "STRONGEST", 2)
    counts = ServingCounts(arrays, "window")
    recent = histories(30, 5)
    found = counts.candidates(recent, ITEMS, NOBODY, np.ones(ITEMS, bool))
    narrowed, full = by_hand(arrays, "window", recent, 3, 2), by_hand(arrays, "window", recent)
    assert [set(rows[rows >= 0]) for rows in found] == [set(np.flatnonzero(own)) for own in narrowed]
    assert (narrowed < full).any()
    # Sums, once an item is a candidate, are made of everything.
    sums = counts.sums(recent, found)["window"]
    np.testing.assert_allclose(sums, np.where(found >= 0, np.take_along_axis(full, found, axis=1), 0), rtol=1e-6)


NOBODY = (np.empty(0, np.int64), np.empty(0, np.int64))


def test_a_users_numbers_do_not_depend_on_who_else_is_asked_for(counts: ServingCounts) -> None:
    recent = histories(9, 5)
    everything = np.broadcast_to(np.arange(ITEMS), (9, ITEMS))
    together = counts.sums(recent, everything)
    best = counts.candidates(recent, 5, NOBODY, np.ones(ITEMS, bool))
    for user in range(9):
        alone = recent[[user]]
        assert np.array_equal(counts.candidates(alone, 5, NOBODY, np.ones(ITEMS, bool))[0], best[user])
        for table, sums in counts.sums(alone, everything[:1]).items():
            assert sums.tobytes() == together[table][user].tobytes()


def test_nobody_and_nothing(counts: ServingCounts) -> None:
    everything = np.ones(ITEMS, bool)
    unknown = np.full((3, 5), -1)
    assert (counts.candidates(unknown, 4, NOBODY, everything) == -1).all()
    assert (counts.candidates(np.zeros((3, 5), np.int64), 4, NOBODY, ~everything) == -1).all()
    assert counts.candidates(histories(3, 5), 0, NOBODY, everything).shape == (3, 0)
    assert not counts.sums(unknown, np.zeros((3, 1), np.int64))["window"].any()
    nobody = np.empty((0, 5), np.int64)
    assert counts.candidates(nobody, 4, NOBODY, everything).shape == (0, 4)
    assert counts.sums(nobody, nobody)["window"].shape == (0, 5)


def test_where_a_release_may_repeat_a_users_own_last_items_come_first(arrays: Arrays) -> None:
    """They tie with nobody, keep their order among themselves, and are barred like others."""
    rows = np.arange(ITEMS, dtype=np.int32)[:, None]
    parts = {"values": np.ones((ITEMS, 1)), "ages": np.ones(3), "floor": np.ones(())}
    itself = {f"counts.itself.again.{part}": array.astype(np.float32) for part, array in parts.items()}
    own = {name: array for name, array in arrays.items() if not name.startswith("counts.own.")}
    repeating = ServingCounts(own | itself | {"counts.itself.neighbours": rows}, "window")
    plain = ServingCounts(arrays, "window")
    recent, all_of_them = histories(40, 7), np.ones(ITEMS, np.bool_)
    nobody = np.empty(0, np.int64)
    found = repeating.candidates(recent, ITEMS, (nobody, nobody), all_of_them)
    others = plain.candidates(recent, ITEMS, (nobody, nobody), all_of_them)
    for user, rows_of in enumerate(found):
        read = set(recent[user, :5].tolist()) - {-1}  # `window` reads five
        ranked = [row for row in rows_of.tolist() if row >= 0]
        assert set(ranked[: len(read)]) == read
        assert ranked[len(read) :] == [row for row in others[user].tolist() if row >= 0 and row not in read]
    user, row = 5, int(recent[5, 0])
    assert row >= 0
    assert row in found[user]
    barred = repeating.candidates(recent, ITEMS, (np.array([user]), np.array([row])), all_of_them)
    assert row not in barred[user]
