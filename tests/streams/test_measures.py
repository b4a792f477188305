"""What is measured of work: distributions that add up, and a batch's time counted for each of its events."""

from __future__ import annotations

import math

import pytest

from streams.measures import Committed, Histogram, Timings


def test_a_value_belongs_to_the_first_bound_that_is_not_below_it() -> None:
    histogram = Histogram([1.0, 2.0])
    for value, count in ((0.5, 1), (1.0, 1), (1.5, 3), (9.0, 1)):
        histogram.add(value, count)
    assert histogram.cumulative() == [2, 5, 6]
    assert histogram.sum == pytest.approx(0.5 + 1 + 4.5 + 9)


def test_the_time_of_a_batch_counts_for_each_of_its_events() -> None:
    now = iter([0.0, 0.5, 1.0, 4.0])
    timings = Timings(lambda: next(now))
    started = timings.begin()
    started = timings.add("fold", started)
    started = timings.add("encode", started)
    timings.add("encode", started)
    timings.end(10)
    assert timings.stages["fold"].cumulative()[-1] == timings.stages["encode"].cumulative()[-1] == 10
    assert (timings.stages["fold"].sum, timings.stages["encode"].sum) == (5.0, 35.0)
    assert timings.seconds == {"fold": 0.5, "encode": 3.5}


def test_a_batch_that_failed_half_way_adds_nothing_to_the_next() -> None:
    now = iter([0.0, 100.0, 100.0, 101.0])
    timings = Timings(lambda: next(now))
    timings.add("fold", timings.begin())
    timings.add("fold", timings.begin())
    timings.end(1)
    assert timings.seconds == {"fold": 1.0}


def test_latency_is_from_append_to_commit_and_its_parts_fit_into_it() -> None:
    committed = Committed(clock=lambda: 110.0)
    committed.add(0, [100_000, 104_000], begun=105.0, committing=108.0)
    assert (committed.latency.sum, committed.wait.sum, committed.commit.sum) == (16.0, 6.0, 4.0)
    assert committed.latency.cumulative()[-1] == committed.commit.cumulative()[-1] == 2
    assert committed.batch.cumulative()[-1] == 1
    assert committed.newest == {0: 104.0}


def test_a_clock_that_is_ahead_makes_no_negative_time() -> None:
    committed = Committed(clock=lambda: 100.0)
    committed.add(0, [200_000], begun=100.0, committing=100.0)
    assert committed.latency.sum == committed.wait.sum == 0.0
    assert math.isfinite(committed.latency.cumulative()[0])
