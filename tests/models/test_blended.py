"""Counts and blend, learned from clicks as they come and from slates: only the second tells taste from exposure."""

from __future__ import annotations

import numpy as np
import pytest

from models.batches import InteractionLog
from models.blend import total
from models.blended import Blended, BlendedConfig
from models.config import Float32
from models.counts import LIKED, CountsConfig
from models.recent import Before
from models.shown import SlateLog

ITEMS, K = 8, 4
GOOD = np.array([0.5, 0.5, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2])
"""P(wanted). The first two of either kind are shown ten times as often, and above the others."""
OFTEN = np.array([10, 10, 1, 1] * 2) / 44
ETA = np.array([1, 0.5, 0.33, 0.25], np.float32)
ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])


def slates(n: int) -> SlateLog:
    random = np.random.default_rng(0)
    items = np.array([random.choice(ITEMS, K, replace=False, p=OFTEN) for _ in range(n)])
    items = np.take_along_axis(items, np.argsort(ORDER.argsort()[items], axis=1), axis=1)
    clicks = random.random((n, K)) < ETA * GOOD[items]
    return SlateLog(np.arange(n), np.arange(n) * 1000, items, clicks, np.broadcast_to(ETA, (n, K)))


def nothing_known(n: int, length: int) -> Before:
    return Before(np.full((n, length), -1, np.int64), np.zeros(n, np.int64), np.full(n, -1, np.float32))


def scores(blended: Blended) -> Float32:
    """As a release made now would score the items for somebody of whom nothing is known; the model says nothing."""
    from models.blend import Blend
    from models.cooccurrence import ServingCounts

    arrays = blended.arrays(np.arange(ITEMS))
    counts, blend = ServingCounts(arrays, blended.source), Blend(arrays)
    rows = np.arange(ITEMS)[None]
    columns = {name: known[rows] for name, known in counts.columns.items()}
    recent = np.full((1, counts.length), -1, np.int64)
    at = blend.contexts(np.zeros(1, np.int64), np.full(1, -1, np.float32), recent)
    found: Float32 = total(blend.terms(np.zeros((1, ITEMS), np.float32), counts.sums(recent, rows), columns, at))[0]
    return found


@pytest.fixture(scope="module")
def shown() -> SlateLog:
    return slates(4000)


def test_slates_teach_taste_and_clicks_as_they_come_teach_exposure(shown: SlateLog) -> None:
    users, items = np.zeros((len(shown), 3), np.float32), np.zeros((ITEMS, 3), np.float32)
    told = Blended(BlendedConfig(CountsConfig(liked=1000.0)), ITEMS)
    told.learn_shown(nothing_known(len(shown), told.length), shown, users, items)
    row, place = np.nonzero(shown.clicks)
    clicked = shown.items[row, place]
    told.count_shown(np.full((len(clicked), told.length), -1, np.int64), clicked)

    n = len(clicked)
    log = InteractionLog(row, clicked, row * 1000, np.zeros(n, np.uint8), np.ones(n, np.float32))
    naive, nobody = Blended(BlendedConfig(), ITEMS), np.empty(0, np.int64)
    for start in range(0, n, 64):
        part = log.part(slice(start, start + 64))
        given = users[: len(part)], items, (nobody, nobody), np.zeros(len(part), np.bool_)
        naive.learn(part, *given)

    by_slates, by_clicks = scores(told), scores(naive)
    rare_good, common_bad = [2, 3], [4, 5]
    assert by_slates[rare_good].min() > by_slates[common_bad].max() + 0.5
    assert by_clicks[rare_good].max() < by_clicks[common_bad].min()  # what was shown more was clicked more


def test_that_little_is_clicked_at_first_is_not_held_against_what_was_shown() -> None:
    """Where one click in twenty is ordinary, the items of the first slates are no worse than those nobody saw."""
    n, random = 64, np.random.default_rng(0)
    items = np.array([random.permutation(4) for _ in range(n)])
    few = SlateLog(np.arange(n), np.arange(n), items, random.random((n, K)) < 0.05, np.ones((n, K), np.float32))
    blended = Blended(BlendedConfig(CountsConfig(liked=1000.0)), ITEMS)
    blended.learn_shown(
        nothing_known(n, blended.length), few, np.zeros((n, 3), np.float32), np.zeros((ITEMS, 3), np.float32)
    )
    liked = blended.arrays(np.arange(ITEMS))[f"counts.items.{LIKED}"]
    assert abs(liked[:4].mean()) < 0.3
    assert not liked[4:].any()


def test_what_waits_for_its_slate_is_followed_and_not_counted() -> None:
    n = 6
    log = InteractionLog(
        np.zeros(n, np.int64), np.arange(n), np.arange(n) * 1000, np.zeros(n, np.uint8), np.ones(n, np.float32)
    )
    nobody = np.empty(0, np.int64)
    vectors = np.zeros((n, 3), np.float32), np.zeros((ITEMS, 3), np.float32), (nobody, nobody)
    waits = np.array([False, True, False, True, True, False])
    blended = Blended(BlendedConfig(CountsConfig(liked=1000.0)), ITEMS)
    blended.learn(log, *vectors, waits)
    known = blended.arrays(np.arange(ITEMS))["counts.items.popularity_1000"][:n] > np.log(0.5)
    np.testing.assert_array_equal(known, ~waits)
    after = InteractionLog(*(np.array(one) for one in ([0], [7], [9000], [0], [1.0])))
    assert blended._recent.follow(after.users, after.items, after.times_ms).recent[0, :n].tolist() == [5, 4, 3, 2, 1, 0]


def test_goes_on_from_its_state(shown: SlateLog) -> None:
    config = BlendedConfig(CountsConfig(liked=1000.0, optimism=0.5))
    users, items = np.zeros((len(shown), 3), np.float32), np.zeros((ITEMS, 3), np.float32)
    one = Blended(config, ITEMS)

    def learn(blended: Blended, part: slice) -> None:
        some = SlateLog(*(getattr(shown, name)[part] for name in SlateLog.__slots__))
        blended.learn_shown(nothing_known(len(some), blended.length), some, users[part], items)

    learn(one, slice(0, 100))
    other = Blended.restore(config, {name: array.copy() for name, array in one.state().items()})
    for blended in (one, other):
        learn(blended, slice(100, 200))
    for name, array in one.state().items():
        np.testing.assert_array_equal(other.state()[name], array, err_msg=name)
    assert np.abs(one.arrays(np.arange(ITEMS))[f"counts.items.{LIKED}"]).max() > 0.1
