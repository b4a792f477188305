from collections.abc import Callable

import numpy as np
import pytest

from models.baselines import Baseline, LastItemTransitions, RecentPopularity, WindowedCoOccurrence

ALL = pytest.mark.parametrize("make", [RecentPopularity, LastItemTransitions, WindowedCoOccurrence])
Make = Callable[..., Baseline]


def feed(baseline: Baseline, events: list[tuple[str, str]]) -> Baseline:
    for at, (user, item) in enumerate(events):
        baseline.learn_one(user, item, at)
    return baseline


def random_events(users: int, items: int, events: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(0)
    return [(f"u{random.integers(users)}", f"i{int(random.integers(items) ** 2 / items)}") for _ in range(events)]


@ALL
def test_nobody_and_nothing_is_fine(make: Make) -> None:
    assert make().rank("anybody", 10, True) == []


@ALL
def test_the_contract_of_a_ranking(make: Make) -> None:
    events = random_events(8, 40, 300)
    baseline = feed(make(), events)
    everything = {item for _, item in events}
    for user in [*{user for user, _ in events}, "stranger"]:
        seen = {item for who, item in events if who == user}
        ranked = baseline.rank(user, 10, False)
        assert len(ranked) == len(set(ranked)) == 10
        assert set(baseline.rank(user, 1000, False)) == everything
        unseen = baseline.rank(user, 1000, True)
        assert set(unseen) == everything - seen
        assert baseline.rank(user, 5, True) == unseen[:5]


@ALL
def test_ranking_changes_nothing(make: Make) -> None:
    events = random_events(5, 20, 200)
    quiet, asked = feed(make(), events), make()
    for at, (user, item) in enumerate(events):
        asked.rank(user, 3, True)
        asked.learn_one(user, item, at)
    assert all(asked.rank(user, 10, False) == quiet.rank(user, 10, False) for user, _ in events)


@ALL
def test_numbers_never_overflow(make: Make) -> None:
    """A half-life of one event for 5,000 events: 2^5000 is out of range unless all is scaled down on the way."""
    events = random_events(3, 6, 5_000)
    ranked = feed(make(half_life=1), events)
    recent = feed(make(half_life=1), events[-400:])
    assert ranked.rank("u0", 3, False) == recent.rank("u0", 3, False)


@ALL
def test_half_life_must_be_positive(make: Make) -> None:
    with pytest.raises(ValueError, match="half_life"):
        make(half_life=0)


def test_popularity_fades() -> None:
    events = [("u", "old")] * 20 + [("v", "new")] * 5
    assert feed(RecentPopularity(half_life=1000), events).rank("w", 2, True) == ["old", "new"]
    assert feed(RecentPopularity(half_life=3), events).rank("w", 2, True) == ["new", "old"]


def test_transitions_are_directed() -> None:
    walk = feed(LastItemTransitions(), [(user, item) for user in "abc" for item in ("x", "y", "z")])
    walk.learn_one("d", "y", 0)
    assert walk.rank("d", 2, True) == ["z", "x"]


def test_co_occurrence_goes_both_ways() -> None:
    events = [(user, item) for user in "abc" for item in ("x", "y")] + [("p", "hit")] * 4
    pairs = feed(WindowedCoOccurrence(), events)
    pairs.learn_one("d", "y", 0)
    assert pairs.rank("d", 2, True) == ["x", "hit"]


@pytest.mark.parametrize("length", [150, 3000], ids=["short", "rows merged on the way"])
def test_co_occurrence_is_the_documented_sum(length: int) -> None:
    events = random_events(5, 12, length)
    window, decay = 4, 0.7
    baseline = feed(WindowedCoOccurrence(window, decay, half_life=1e12), events)
    names = sorted({item for _, item in events})
    counts = {name: sum(item == name for _, item in events) for name in names}
    pairs: dict[tuple[str, str], float] = {}
    histories: dict[str, list[str]] = {}
    for user, item in events:
        history = histories.setdefault(user, [])
        for age, other in enumerate(history[::-1][:window]):
            if other != item:
                for key in ((item, other), (other, item)):
                    pairs[key] = pairs.get(key, 0) + decay**age
        history.append(item)
    for user, history in histories.items():
        recent = list(enumerate(history[::-1][:window]))
        score = {
            name: sum(
                decay**age * pairs.get((item, name), 0) / (counts[item] * counts[name]) ** 0.5 for age, item in recent
            )
            for name in names
        }
        ranked = baseline.rank(user, len(names), False)
        scores = [score[name] for name in ranked]
        assert scores == pytest.approx(sorted(scores, reverse=True))


def test_counting_and_reading_have_settings_of_their_own() -> None:
    """By hand: pairs (x, y) at distance 1 and (x, z) at distance 2, read from x at age 1 and y at age 0."""
    pairs = feed(
        WindowedCoOccurrence(
            2, 0.5, 1e12, read_window=2, read_decay=0.1, backward=0.25, source_power=0, target_power=0
        ),
        [("a", "x"), ("a", "y"), ("a", "z"), ("b", "y"), ("c", "x"), ("c", "y")],
    )
    # Pairs x→y 2 (a, c), x→z .5, y→z 1, y→x .5, z→y .25, z→x .125. User c read y at age 0 and x at age 1:
    # z 1 + .1 × .5, x .5, y .1 × 2.
    assert pairs.rank("c", 3, False) == ["z", "x", "y"]


@pytest.mark.parametrize(("read_window", "first"), [(1, "z"), (2, "w")])
def test_no_more_is_read_than_the_window(read_window: int, first: str) -> None:
    """After x comes w, three times; after y comes z, once. Who did x, then y, is told w only if x is read."""
    log = [*((user, item) for user in "abc" for item in ("x", "w")), ("d", "y"), ("d", "z"), ("e", "x"), ("e", "y")]
    settings = {"read_window": read_window, "read_decay": 0.9, "source_power": 0.0, "target_power": 0.0}
    assert feed(WindowedCoOccurrence(2, 0.5, 1e12, backward=0.0, **settings), log).rank("e", 1, True) == [first]


def test_self_pairs_and_a_bonus_recommend_again() -> None:
    history = [(user, item) for user in "abcd" for item in ("x", "y")] + [("e", "x")]
    assert feed(WindowedCoOccurrence(), history).rank("e", 1, False) == ["y"]
    assert feed(WindowedCoOccurrence(repeat_bonus=2.0), history).rank("e", 2, False) == ["x", "y"]
    assert feed(WindowedCoOccurrence(repeat_bonus=2.0), history).rank("e", 2, True) == ["y"]
    again = [(user, "x") for user in "abcd" for _ in range(3)] + history
    assert feed(WindowedCoOccurrence(self_pairs=True), again).rank("e", 1, False) == ["x"]
    assert feed(WindowedCoOccurrence(), again).rank("e", 1, False) == ["y"]
