"""A small version of bench/ope_coverage.py: intervals hold the truth about as often as they say, or nothing is said."""

from __future__ import annotations

import pytest

from bench.ope_coverage import measured, single, slate


@pytest.mark.parametrize(
    "world",
    [
        single("users", 3, rounds=500, rate=0.2, shift=0.5, users=125),
        slate("slates", 8, rounds=400, rate=0.2, temperature=0.7, epsilon=0.1),
    ],
)
def test_where_policies_are_alike_intervals_hold_the_value(world) -> None:
    for one in measured(world, 30):
        assert one["refused"] <= 0.07
        assert one["covered"] >= 0.83, one  # of 95%: below it twice in a thousand
        assert one["certain_covered"] == 1.0


def test_where_they_are_not_nothing_is_said_or_the_interval_is_widened() -> None:
    for world in (
        single("wrong", 7, rounds=1500, rate=0.1, shift=0.5, wrong=1.5),
        slate("upside down", 11, rounds=600, rate=0.1, temperature=-0.1, epsilon=0.0),
    ):
        for one in measured(world, 8):
            if one["family"] != "positions":
                assert one["refused"] >= 0.8, one
            else:
                assert one["refused"] + one["poor"] >= 0.9, one
