"""The order of things: predicted, then learned; and what ranks come out, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.prequential import BaselineArm, Clock, play, ranks_of
from models.baselines import RecentPopularity
from tests.evaluation.streams import random_stream, stream


class Echo:
    """Recommends what was learned last: right every time, if it is told an event before it is asked for it."""

    def __init__(self) -> None:
        self.learned: list[str] = []

    def learn_one(self, user: str, item: str, time_ms: int) -> None:
        self.learned.append(item)

    def rank(self, user: str, k: int, exclude_seen: bool) -> list[str]:
        return self.learned[-1:]


def test_an_arm_does_not_see_the_event_it_is_asked_for() -> None:
    """No item comes twice in a row, so that an echo is always wrong."""
    events = stream("\n".join(f"u{at % 3} i{at % 5}" for at in range(60)))
    echo = Echo()
    played = play(events, 20, BaselineArm(events, 20, echo), round_size=7)
    assert len(played.ranks) == 40
    assert played.ranks.sum() == 0
    assert echo.learned == [events.item_ids[item] for item in events.items]


def test_ranks_of_a_known_stream() -> None:
    """After the warm-up x leads y; each event is ranked by what came before it."""
    events = stream("a x\na y\nb x\nc y\nc x\nd y\nd z\ne z\ne x")
    arm = BaselineArm(events, 3, RecentPopularity(half_life=1e9), exclude_seen=True)
    played = play(events, 3, arm, round_size=4)
    # c: x 2, y 1 → y 2nd; then x alone, 1st. d: x 3, y 2 → y 2nd; z unknown. e: z 3rd; then x after y, the newer.
    assert played.ranks.tolist() == [2, 1, 2, 0, 3, 2]


def test_positions_beyond_k_do_not_count() -> None:
    events = stream("a x\na y\nb x\nc y\nd x")
    ranks = [
        play(events, 3, BaselineArm(events, 3, RecentPopularity(half_life=1e9), k=k)).ranks.tolist() for k in (1, 2)
    ]
    assert ranks == [[0, 0], [2, 2]]


def test_ranks_by_hand() -> None:
    lists = np.array([[4, 2, 7], [4, -1, -1], [1, 2, 3]])
    assert ranks_of(lists, np.array([7, 4, 9])).tolist() == [3, 1, 0]


class Fixed:
    """An arm that recommends the same to everybody."""

    def __init__(self, items: list[int]) -> None:
        self.items, self.clock, self.facts = items, Clock(), {}

    def warm_up(self) -> None: ...

    def play(self, begin: int, end: int) -> np.ndarray:
        return np.tile(np.array(self.items), (end - begin, 1))


def test_what_nobody_has_met_cannot_be_recommended() -> None:
    events = stream("a x\na y\nb x\nb z")
    with pytest.raises(ValueError, match=r"event 2: item 'z' was recommended before"):
        play(events, 2, Fixed([0, 2]))
    assert play(stream("a x\na y\nb x\nb z", listed=("z",)), 2, Fixed([1, 0])).ranks.tolist() == [1, 2]


def test_an_item_counts_once() -> None:
    with pytest.raises(ValueError, match=r"item 'y' was recommended twice"):
        play(stream("a x\na y\nb x"), 2, Fixed([1, 1]))


def test_the_size_of_rounds_does_not_concern_a_baseline() -> None:
    events = random_stream(8, 12, 200)
    ranks = [
        play(events, 50, BaselineArm(events, 50, RecentPopularity()), round_size=size).ranks.tolist()
        for size in (1, 13, 500)
    ]
    assert ranks[0] == ranks[1] == ranks[2]
