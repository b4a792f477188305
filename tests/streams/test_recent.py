"""What users did last, beside their states read one by one."""

from __future__ import annotations

import numpy as np
import pytest

from index.catalogue import Catalogue
from models.recent import Before, RecentItems
from streams.recent import Recent
from streams.state import StateLimits, UserState, id_hash
from tests.small import START

LIMITS = StateLimits(events=6)


def user(*events: tuple[str, int]) -> UserState:
    state = UserState()
    for item, time in events:
        state.push(id_hash(item), time, 1.0, 0, LIMITS)
    return state


@pytest.fixture
def catalogue() -> Catalogue:
    made = Catalogue()
    made.upsert([f"i{number}" for number in range(10)], [None] * 10)
    return made


STATES = [
    UserState(),
    user(("i3", 1000)),
    user(("i1", 1000), ("nobody's", 2000), ("i2", 5500)),
    user(*((f"i{number % 4}", 1000 * number) for number in range(9))),  # the ring holds six
    user(("i5", 9000), ("i6", 4000)),  # a clock that went back
]


@pytest.mark.parametrize("length", [1, 2, 4, 8])
def test_the_newest_come_first_and_what_is_unknown_keeps_its_place(catalogue: Catalogue, length: int) -> None:
    recent = Recent.of(STATES, catalogue, length)
    expected = [[], [3], [2, -1, 1], [0, 3, 2, 1, 0, 3], [6, 5]]
    assert recent.slots.tolist() == [(slots + [-1] * 8)[:length] for slots in expected]
    assert recent.events.tolist() == [0, 1, 3, 9, 2]
    assert recent.gap_s.tolist() == [-1, -1, 3.5, 1, 0]


def test_some_of_the_users_and_nobody(catalogue: Catalogue) -> None:
    recent = Recent.of(STATES, catalogue, 3)
    one = recent.take(np.array([3]))
    assert (one.slots.tolist(), one.events.tolist(), one.gap_s.tolist()) == ([[0, 3, 2]], [9], [1])
    assert Recent.of([], catalogue, 3).slots.shape == (0, 3)


def test_a_worker_sees_of_a_user_what_the_learner_saw(catalogue: Catalogue) -> None:
    """The same events, read from states here and followed as arrays there: a blend is served what it was learned on."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 6, 80), random.integers(-1, 10, 80)
    times = START + np.cumsum(random.choice([-700, 0, 250, 90_000], 80))
    follower, states = RecentItems(4), [UserState() for _ in range(6)]
    for at in range(80):
        if at:
            recent = Recent.of(states, catalogue, 4)
            asked = follower_before(follower, users[at])
            assert recent.slots[users[at]].tolist() == asked.recent[0].tolist()
            assert (recent.events[users[at]], recent.gap_s[users[at]]) == (asked.events[0], asked.gap_s[0])
        follower.follow(users[at : at + 1], items[at : at + 1], times[at : at + 1])
        name = f"i{items[at]}" if items[at] >= 0 else "nobody's"
        states[users[at]].push(id_hash(name), int(times[at]), 1.0, 0, LIMITS)


def follower_before(follower: RecentItems, user: int) -> Before:
    """What the learner knows of a user before his next event, whichever that is."""
    return RecentItems.restore(follower.state()).follow(np.array([user]), np.array([-1]), np.array([0]))
