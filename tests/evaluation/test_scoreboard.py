"""The scoreboard: who is judged on what, in which order things may come, and the figures themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evaluation.scoreboard import RANKERS, Scoreboard

CATALOGUE = [f"i{number}" for number in range(50)]
FIRST_OF_USER = "first event of its user"
COALESCED = "event before answered together with a later one"


def board(**options: int) -> Scoreboard:
    """A scoreboard whose baselines know some items, of users of their own."""
    scoreboard = Scoreboard(set(CATALOGUE), **options)
    for number, item in enumerate(["i1", "i2", "i3", "i1", "i2", "i1"]):
        scoreboard.learn((9, number), f"warm{number % 2}", item, number)
    return scoreboard


def publish(scoreboard: Scoreboard, offsets: Sequence[int], slate: Sequence[str], greedy: Sequence[str] = ()) -> None:
    """Publish a slate of partition 0 and its decision, whose order by logits is `greedy`."""
    candidates = [None, *reversed(greedy)]
    logits = np.array([-np.inf, *range(len(greedy))], np.float32)
    scoreboard.slate(0, offsets, slate)
    scoreboard.decision(0, offsets, candidates, logits)


def test_an_event_is_scored_by_the_slate_of_the_event_before() -> None:
    scoreboard = board()
    scoreboard.event((0, 0), "anna", "i7", 0)
    publish(scoreboard, [0], ["i5", "i6", "i8"], greedy=["i8", "i5"])
    scoreboard.event((0, 1), "anna", "i8", 1)
    assert scoreboard.unscored == {FIRST_OF_USER: 1}
    score = scoreboard.overall
    assert score.events == 1
    assert score.hit_rate == dict(zip(RANKERS, (1, 1, 0, 0, 0), strict=True))
    assert score.ndcg["driftline"] == pytest.approx(1 / math.log2(4))
    assert score.ndcg["greedy"] == 1


def test_baselines_are_asked_before_they_learn() -> None:
    scoreboard = board()
    scoreboard.event((0, 0), "anna", "i1", 0)
    publish(scoreboard, [0], [])
    scoreboard.event((0, 1), "anna", "i40", 1)
    publish(scoreboard, [1], [])
    assert scoreboard.overall.hit_rate["recent_popularity"] == 0  # nobody had i40 before
    scoreboard.event((0, 2), "anna", "i2", 2)
    assert scoreboard.overall.hit_rate["recent_popularity"] == 0.5
    # i1 was followed by i40; i2 was popular, and i1 is excluded as seen: i2 is first.
    assert scoreboard.overall.ndcg["recent_popularity"] == pytest.approx(0.5)


def test_every_order_of_arrival_gives_the_same_scores() -> None:
    steps: list[Callable[[Scoreboard], None]] = [
        lambda one: (one.event((0, 0), "anna", "i1", 0), one.event((0, 1), "anna", "i8", 1))[0],
        lambda one: one.slate(0, [0], ["i9", "i8"]),
        lambda one: one.decision(0, [0], ["i8", "i9"], np.array([1, 0], np.float32)),
    ]
    for order in itertools.permutations(steps):
        scoreboard = board()
        for step in order:
            step(scoreboard)
        assert scoreboard.overall.events == 1
        assert scoreboard.overall.ndcg["greedy"] == 1
        assert scoreboard.overall.ndcg["driftline"] == pytest.approx(1 / math.log2(3))
        assert scoreboard.waiting == 0


@pytest.mark.parametrize("slate_first", [True, False])
def test_events_answered_together_leave_the_later_ones_unscored(slate_first: bool) -> None:
    """A baseline would know the first event when it is asked for the second; the slate of both came after it."""
    scoreboard = board()
    if slate_first:
        publish(scoreboard, [0, 1], ["i9"])
    scoreboard.event((0, 0), "anna", "i1", 0)
    scoreboard.event((0, 1), "anna", "i2", 1)
    scoreboard.event((0, 2), "anna", "i9", 2)
    if not slate_first:
        publish(scoreboard, [0, 1], ["i9"])
    assert scoreboard.unscored == {FIRST_OF_USER: 1, COALESCED: 1}
    assert scoreboard.overall.events == 1 and scoreboard.overall.hit_rate["driftline"] == 1


def test_an_event_waits_for_its_slate_and_its_decision() -> None:
    scoreboard = board()
    scoreboard.event((0, 0), "anna", "i1", 0)
    scoreboard.event((0, 1), "anna", "i2", 1)
    assert (scoreboard.waiting, scoreboard.overall.events) == (1, 0)
    scoreboard.slate(0, [0], ["i2"])
    assert (scoreboard.waiting, scoreboard.overall.events) == (1, 0)
    scoreboard.decision(0, [0], ["i2"], np.zeros(1, np.float32))
    assert (scoreboard.waiting, scoreboard.overall.events) == (0, 1)


def test_the_warm_up_is_learned_and_its_last_slate_counts() -> None:
    scoreboard = board()
    scoreboard.learn((0, 0), "anna", "i4", 0)
    scoreboard.learn((0, 1), "anna", "i5", 1)
    publish(scoreboard, [0, 1], ["i6"])
    scoreboard.event((0, 2), "anna", "i6", 2)
    assert scoreboard.overall.events == 1 and scoreboard.overall.hit_rate["driftline"] == 1
    assert not scoreboard.unscored


def test_nothing_is_kept_of_what_is_settled() -> None:
    scoreboard = board()
    for offset in range(0, 30, 3):
        scoreboard.learn((0, offset), "anna", f"i{offset}", offset)
        scoreboard.learn((0, offset + 1), "anna", f"i{offset + 1}", offset)
        publish(scoreboard, [offset, offset + 1], ["i1"])
        scoreboard.event((0, offset + 2), "anna", f"i{offset + 2}", offset)
        publish(scoreboard, [offset + 2], ["i1"])
    kept = set(scoreboard._answers) | {place for place in scoreboard._asked if place[0] == 0}
    assert kept == {(0, 29)}  # waits for the next event


def test_an_item_that_is_not_in_the_catalogue_is_a_miss_for_everybody() -> None:
    scoreboard = board()
    scoreboard.learn((9, 9), "other", "alien", 0)
    scoreboard.event((0, 0), "anna", "i1", 0)
    publish(scoreboard, [0], ["alien"], greedy=["alien"])
    scoreboard.event((0, 1), "anna", "alien", 1)
    assert scoreboard.overall.events == 1
    assert set(scoreboard.overall.hit_rate.values()) == {0.0}


def test_what_the_user_has_seen_is_excluded_from_the_baselines() -> None:
    scoreboard = board()
    scoreboard.event((0, 0), "anna", "i1", 0)
    publish(scoreboard, [0], ["i1"])
    scoreboard.event((0, 1), "anna", "i1", 1)
    hits = scoreboard.overall.hit_rate
    assert hits["driftline"] == 1  # as published, right or wrong
    assert hits["recent_popularity"] == hits["last_item"] == hits["co_occurrence"] == 0


def test_only_the_first_ten_count() -> None:
    scoreboard = board()
    scoreboard.event((0, 0), "anna", "i1", 0)
    publish(scoreboard, [0], CATALOGUE[20:31], greedy=CATALOGUE[20:31])
    scoreboard.event((0, 1), "anna", "i30", 1)
    assert scoreboard.overall.hit_rate["driftline"] == scoreboard.overall.hit_rate["greedy"] == 0


def test_events_at_the_same_time_are_counted_apart() -> None:
    scoreboard = board()
    for offset, time in enumerate((5, 5, 6)):
        scoreboard.event((0, offset), "anna", f"i{offset}", time)
        publish(scoreboard, [offset], ["i2"])
    assert (scoreboard.overall.events, scoreboard.untied.events) == (2, 1)
    assert (scoreboard.overall.hit_rate["driftline"], scoreboard.untied.hit_rate["driftline"]) == (0.5, 1.0)


def test_recent_forgets() -> None:
    scoreboard = board(window=3)
    for offset in range(10):
        scoreboard.event((0, offset), "anna", f"i{offset}", offset)
        publish(scoreboard, [offset], [f"i{offset + 1}"] if offset < 7 else ["i49"])
    assert (scoreboard.recent.events, scoreboard.overall.events) == (3, 9)
    assert scoreboard.recent.hit_rate["driftline"] == pytest.approx(1 / 3)
    assert scoreboard.overall.hit_rate["driftline"] == pytest.approx(7 / 9)


def test_scores_of_nothing_are_zero() -> None:
    assert board().overall.events == 0
    assert set(board().recent.hit_rate.values()) == {0.0}
