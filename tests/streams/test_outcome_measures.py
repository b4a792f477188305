"""Outcomes: hits counted once, weights whose spread is known."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from streams.outcome_measures import WEIGHT_CAP, OutcomeMeasures
from tests import small


def test_nothing_is_said_before_the_first_outcome() -> None:
    measures = OutcomeMeasures()
    assert (measures.hit_ratio, measures.effective_sample_ratio, measures.clipped_ratio) == (None, None, None)


def test_a_hit_is_a_slate_with_a_reward_and_other_systems_slates_are_no_hits_of_ours() -> None:
    measures = OutcomeMeasures()
    miss = small.outcome(["i1", "i2"])
    hit = replace(miss, rewards=[0.0, 2.0])
    for outcome in (miss, hit, replace(hit, origin="external"), replace(miss, reason="evicted")):
        measures.add(outcome)
    assert measures.counts == {
        ("driftline", "window", False): 1,
        ("driftline", "window", True): 1,
        ("external", "window", True): 1,
        ("driftline", "evicted", False): 1,
    }
    assert measures.hit_ratio == pytest.approx(1 / 3, rel=0.01)


def test_even_weights_are_worth_as_many_as_they_are_and_one_large_one_hardly_more_than_itself() -> None:
    even, skewed = OutcomeMeasures(), OutcomeMeasures()
    even.add(replace(small.outcome(["i1", "i2", "i3", "i4"]), inclusion=[0.1] * 4))
    skewed.add(replace(small.outcome(["i1", "i2", "i3", "i4"]), inclusion=[1.0, 1.0, 1.0, 1e-4]))
    assert even.effective_sample_ratio == pytest.approx(1.0)
    assert even.clipped_ratio == 0.0
    assert skewed.effective_sample_ratio == pytest.approx(10_003**2 / (4 * (10**8 + 3)))
    assert skewed.clipped_ratio == pytest.approx((10_000 - WEIGHT_CAP) / 10_003)


def test_what_is_long_past_hardly_counts() -> None:
    measures = OutcomeMeasures()
    for _ in range(3000):
        measures.add(replace(small.outcome(["i1"]), rewards=[1.0]))
    for _ in range(7000):
        measures.add(small.outcome(["i1"]))
    assert measures.hit_ratio is not None and measures.hit_ratio < 0.01
