import numpy as np
import pytest

from models.factorisation import IncrementalFactorisation, smallest


def test_a_step_is_the_documented_one() -> None:
    one = IncrementalFactorisation(dim=3, rate=0.1, regularisation=0.02, passes=1, seed=4)
    random = np.random.default_rng(4)
    q, p = (random.normal(0, 0.1, 3).astype(np.float32) for _ in range(2))
    one.learn_one("u", "i", 0)
    error = 1 - p @ q
    p = p + 0.1 * (error * q - 0.02 * p)
    q = q + 0.1 * (error * p - 0.02 * q)
    assert one._users["u"] == pytest.approx(p, abs=1e-6)
    assert one._items[0] == pytest.approx(q, abs=1e-6)


def test_it_learns_who_likes_what() -> None:
    one = IncrementalFactorisation(dim=8, rate=0.2, passes=2)
    random = np.random.default_rng(0)
    for _ in range(3000):
        user = int(random.integers(20))
        one.learn_one(f"u{user}", f"i{2 * random.integers(10) + user % 2}", 0)
    for user in range(20):
        ranked = one.rank(f"u{user}", 10, False)
        assert sum(int(item[1:]) % 2 == user % 2 for item in ranked) >= 9


def test_what_is_ranked() -> None:
    one = IncrementalFactorisation(dim=4)
    assert one.rank("nobody", 5, True) == []
    for item in "aabc":
        one.learn_one("u", item, 0)
    assert one.rank("stranger", 2, True)[0] == "a"
    assert one.rank("u", 5, True) == []
    assert sorted(one.rank("u", 5, False)) == ["a", "b", "c"]


def test_a_rate_too_large_does_not_overflow() -> None:
    one = IncrementalFactorisation(dim=16, rate=2.0, passes=8)
    for at in range(500):
        one.learn_one(f"u{at % 2}", f"i{at % 3}", 0)
    assert len(one.rank("u0", 3, False)) == 3


@pytest.mark.parametrize("field", ["dim", "rate", "passes"])
def test_settings_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        IncrementalFactorisation(**{field: 0})


def test_smallest_in_order_of_place_among_equals() -> None:
    numbers = np.array([3, 1, np.inf, 1, 2], np.float32)
    assert smallest(numbers, 3).tolist() == [1, 3, 4]
    assert smallest(numbers, 9).tolist() == [1, 3, 4, 0]
