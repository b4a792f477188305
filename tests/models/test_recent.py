import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.recent import Before, RecentItems

LENGTH = 3
Event = tuple[int, int, int]
events = st.lists(st.tuples(st.integers(-(2**62), 2**62), st.integers(-1, 5), st.integers(0, 10_000)), max_size=30)
few_users = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 5), st.integers(0, 10_000)), max_size=30)


def follow(recent: RecentItems, batch: list[Event]) -> Before:
    return recent.follow(*(np.array([event[at] for event in batch], np.int64) for at in range(3)))


def expected(log: list[Event], at: int) -> tuple[list[int], int, float]:
    """What a reader of the whole log would say of the user before event `at`."""
    past = [(item, time) for user, item, time in log[:at] if user == log[at][0]]
    items = [item for item, _ in reversed(past)][:LENGTH]
    gap = max(0, past[-1][1] - past[-2][1]) / 1000 if len(past) > 1 else -1.0
    return items + [-1] * (LENGTH - len(items)), len(past), gap


@given(st.one_of(few_users, events), st.integers(1, 30))
def test_what_was_before_each_event_is_what_the_log_says(log: list[Event], size: int) -> None:
    recent = RecentItems(LENGTH)
    for start in range(0, len(log), size):
        before = follow(recent, log[start : start + size])
        for at in range(len(before.events)):
            items, count, gap = expected(log, start + at)
            assert before.recent[at].tolist() == items
            assert before.events[at] == count
            assert before.gap_s[at] == np.float32(gap)
        recent = RecentItems.restore(recent.state())
    assert len(recent) == len({user for user, _, _ in log})


def test_a_forgotten_user_starts_anew_and_leaves_others_alone() -> None:
    recent = RecentItems(LENGTH)
    follow(recent, [(1, 4, 0), (2, 5, 0), (1, 3, 1000)])
    recent.forget([1, 99])
    assert len(recent) == 1
    before = follow(recent, [(1, 0, 2000), (2, 0, 2000), (7, 0, 2000)])
    assert before.recent.tolist() == [[-1, -1, -1], [5, -1, -1], [-1, -1, -1]]
    assert before.events.tolist() == [0, 1, 0]
    assert before.gap_s.tolist() == [-1, -1, -1]


def test_nothing_of_a_forgotten_user_is_in_the_state() -> None:
    recent = RecentItems(LENGTH)
    follow(recent, [(1, 4, 123_456), (2, 5, 0)])
    recent.forget([1])
    state = recent.state()
    assert state["users"].tolist() == [2]
    assert all(4 not in array and 123_456 not in array for array in state.values())
    assert 4 not in recent._recent and 123_456 not in recent._last_ms
