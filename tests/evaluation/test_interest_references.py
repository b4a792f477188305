import numpy as np
import pytest

from evaluation.interest_references import FLOOR, Past, likelihood, no_change, trend_line, tuned

DAY = 86_400_000
EVERYBODY = np.array([0.5, 0.5])


def past(second: list[float], days: list[float] | None = None) -> Past:
    """Of a user whose events are of the second of two topics to these parts."""
    part = np.array(second, np.float32)
    times = np.arange(len(part)) if days is None else np.array(days)
    return Past(np.stack([1 - part, part], axis=1), (times * DAY).astype(np.int64), EVERYBODY)


def test_no_change_counts_the_newest_most() -> None:
    found = no_change(past([1, 0]), decay=0.5, prior=1.0)
    np.testing.assert_allclose(found, [(1 + 0.5) / 2.5, (0.5 + 0.5) / 2.5])


def test_a_line_leads_on() -> None:
    found = trend_line(past([0.0, 0.1, 0.2, 0.3]), 2 * DAY, ridge=0.0, events=4, prior=0.0)
    np.testing.assert_allclose(found, [0.5, 0.5], atol=1e-6)


def test_a_line_is_cut_off_where_there_is_no_share_left() -> None:
    found = trend_line(past([0.4, 0.6, 0.8, 1.0]), 5 * DAY, ridge=0.0, events=4, prior=0.0)
    np.testing.assert_allclose(found, [0, 1], atol=1e-6)


def test_the_ridge_lays_the_line_flat() -> None:
    mean = trend_line(past([0.0, 0.1, 0.2, 0.3]), DAY, ridge=1e6, events=4, prior=0.0)
    np.testing.assert_allclose(mean, [0.85, 0.15], atol=1e-4)


def test_one_moment_has_no_slope() -> None:
    found = trend_line(past([0, 1], days=[3, 3]), DAY, ridge=0.0, events=9, prior=2.0)
    np.testing.assert_allclose(found, [0.5, 0.5], atol=1e-6)


def test_what_was_thought_impossible_costs_a_finite_amount() -> None:
    came = np.array([0, 1], np.float32)
    assert likelihood(np.array([1.0, 0.0]), came) == pytest.approx(np.log(FLOOR / 2))
    assert likelihood(np.array([0.0, 1.0]), came) == pytest.approx(0, abs=FLOOR)


def test_tuning_finds_the_line_where_there_is_one_and_a_flat_one_where_there_is_none() -> None:
    rising = past(list(np.linspace(0.2, 0.6, 30)))
    _, (ridge, _, prior) = tuned([rising] * 3, [np.array([0.2, 0.8], np.float32)] * 3, 10 * DAY)
    assert (ridge < 0.5, prior) == (True, 3.0)
    still = past([0.5] * 30 + [0.3, 0.7])
    (_, prior), (ridge, _, _) = tuned([still] * 3, [np.array([0.5, 0.5], np.float32)] * 3, 10 * DAY)
    assert prior >= 3.0
    assert np.isfinite(ridge)
