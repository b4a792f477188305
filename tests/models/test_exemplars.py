import numpy as np
import pytest

from models.batches import InteractionLog
from models.exemplars import Exemplars


def log_of(users: list[int], items: list[int], times: list[int] | None = None) -> InteractionLog:
    n = len(users)
    return InteractionLog(
        np.array(users, np.int64),
        np.array(items, np.int64),
        np.array(range(n) if times is None else times, np.int64),
        np.full(n, 3, np.uint8),
        np.linspace(1, 2, n, dtype=np.float32),
    )


def filled(capacity: int = 100) -> Exemplars:
    exemplars = Exemplars(capacity)
    exemplars.add(log_of([7, 8, 7], [0, 1, 2]))
    exemplars.add(log_of([8, 7, -5], [3, 4, 5], [3, 4, 5]))
    return exemplars


def items_of(exemplars: Exemplars, user: int, length: int = 10) -> list[int]:
    items: list[int] = exemplars.histories(np.array([user]), length)[0][0].tolist()
    return items


def test_histories_go_through_all_additions() -> None:
    exemplars = filled()
    assert [items_of(exemplars, user) for user in (7, 8, -5, 9)] == [[0, 2, 4], [1, 3], [5], []]
    assert items_of(exemplars, 7, length=2) == [2, 4]
    _, times, actions, weights = exemplars.histories(np.array([8]), 10)[0]
    assert (times.tolist(), actions.tolist(), weights.tolist()) == ([1, 3], [3, 3], [1.5, 1.0])


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 64])
def test_what_is_kept_is_the_end_of_the_log(capacity: int) -> None:
    random = np.random.default_rng(capacity)
    users, items = random.integers(0, 5, 200), random.integers(0, 50, 200)
    exemplars = Exemplars(capacity)
    for part in np.split(np.arange(200), np.sort(random.integers(0, 200, 30))):
        exemplars.add(log_of(users[part].tolist(), items[part].tolist()))
    for user in range(5):
        kept = items[-capacity:][users[-capacity:] == user]
        assert items_of(exemplars, user, 200) == kept.tolist()
    assert exemplars.total == 200
    assert len(exemplars._newest) == len(np.unique(users[-capacity:])), "users of whom nothing is left take no memory"


def test_a_piece_ends_where_it_is_told_and_its_first_event_is_no_target_unless_the_users_first() -> None:
    batch = filled().batch(np.array([4, 5, 3]), 2, 0.0, np.random.default_rng(0))
    assert batch.items.tolist() == [[2, 4], [5, -1], [1, 3]]
    assert batch.lengths.tolist() == [2, 1, 2]
    assert batch.firsts.tolist() == [False, True, True]
    assert batch.targets.tolist() == [[False, True], [True, False], [True, True]]


def test_pieces_are_in_order_of_time_and_ties_shuffled_on_request() -> None:
    exemplars = Exemplars(100)
    exemplars.add(log_of([1] * 6, list(range(6)), [5, 5, 5, 9, 7, 5]))
    ends, random = np.full(50, 5), np.random.default_rng(0)
    assert (exemplars.batch(ends, 6, 0.0, random).items == [0, 1, 2, 5, 4, 3]).all()
    shuffled = exemplars.batch(ends, 6, 1.0, random)
    assert (shuffled.items[:, 4:] == [4, 3]).all()
    assert (np.sort(shuffled.items[:, :4], axis=1) == [0, 1, 2, 5]).all()
    assert len(np.unique(shuffled.items, axis=0)) > 10


def test_unknown_items_are_no_targets() -> None:
    exemplars = Exemplars(10)
    exemplars.add(log_of([1, 1, 1], [4, -1, 6]))
    assert exemplars.batch(np.array([2]), 5, 0.0, np.random.default_rng(0)).targets.tolist() == [[True, False, True]]


def test_worth_is_of_the_newest_interaction() -> None:
    exemplars = Exemplars(100)
    exemplars.add(log_of([1, 1, 1, 2], [4, 5, 4, 4]))
    exemplars.weigh(np.array([1, 2, 3, 1]), np.array([4, 9, 4, 5]), np.array([3, 7, 7, 2], np.float32), 10)
    assert exemplars.batch(np.array([2, 3]), 3, 0.0, np.random.default_rng(0)).worth[0].tolist() == [1, 2, 3]
    assert exemplars.arrays()["worth"].tolist() == [1, 2, 3, 1]


def test_nothing_of_a_forgotten_user_is_left() -> None:
    exemplars = filled()
    exemplars.forget(np.array([7, 7, 99]))
    assert items_of(exemplars, 7) == []
    assert items_of(exemplars, 8) == [1, 3]
    arrays = exemplars.arrays()
    assert 7 not in arrays["users"] and not {0, 2, 4} & set(arrays["items"].tolist())
    assert not arrays["times_ms"][arrays["items"] == -2].any()
    assert not exemplars.batch(np.array([4]), 5, 0.0, np.random.default_rng(0)).targets.any()
    exemplars.add(log_of([7], [6]))
    assert items_of(exemplars, 7) == [6], "they may come back"


@pytest.mark.parametrize("capacity", [4, 100])
def test_restored_is_the_same(capacity: int) -> None:
    exemplars = filled(capacity)
    exemplars.forget(np.array([-5]))
    restored = Exemplars.restored(capacity, exemplars.total, exemplars.arrays())
    for one in (exemplars, restored):
        one.add(log_of([8, 9], [7, 8]))
    for user in (7, 8, 9, -5):
        assert items_of(restored, user) == items_of(exemplars, user)
    assert restored._newest == exemplars._newest
    for name, array in exemplars.arrays().items():
        np.testing.assert_array_equal(restored.arrays()[name], array)
