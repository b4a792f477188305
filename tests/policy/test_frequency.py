from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from policy.frequency import StreamingFrequency

ITEMS = np.random.default_rng(0).integers(0, 2**64, 60, dtype=np.uint64)


def feed(
    frequency: StreamingFrequency, probabilities: NDArray[np.float64], steps: int, seed: int
) -> StreamingFrequency:
    """Show each item independently with its probability at every step."""
    shown = np.random.default_rng(seed).random((steps, len(probabilities))) < probabilities
    for row in shown:
        frequency.learn(ITEMS[row], frequency.step + 1)
    return frequency


def log_error(frequency: StreamingFrequency, probabilities: NDArray[np.float64]) -> float:
    return float(np.abs(np.log(frequency.probability(ITEMS) / probabilities)).mean())


def test_recovers_known_frequencies() -> None:
    probabilities = np.geomspace(0.5, 0.01, 60)
    frequency = feed(StreamingFrequency(), probabilities, 5000, 1)
    assert log_error(frequency, probabilities) < 0.1


def test_follows_a_switch() -> None:
    probabilities = np.geomspace(0.5, 0.05, 60)
    frequency = feed(StreamingFrequency(alpha=0.02), probabilities, 3000, 1)
    before = log_error(frequency, probabilities[::-1])
    feed(frequency, probabilities[::-1], 5000, 2)
    assert before > 1
    assert log_error(frequency, probabilities[::-1]) < 0.15


def test_the_largest_gap_over_rows_resists_collisions() -> None:
    probabilities = np.geomspace(0.3, 0.003, 60)
    one_row = feed(StreamingFrequency(rows=1, width=160), probabilities, 4000, 3)
    four_rows = feed(StreamingFrequency(rows=4, width=40 * 4), probabilities, 4000, 3)
    assert log_error(four_rows, probabilities) < 0.6 * log_error(one_row, probabilities)


def test_an_item_never_shown_gets_one_over_steps() -> None:
    frequency = StreamingFrequency()
    assert frequency.probability(ITEMS[:1]) == 1.0
    for step in range(1, 100):
        frequency.learn(ITEMS[:1], step)
    assert frequency.probability(ITEMS[1:2]) == pytest.approx(0.01)
    assert frequency.probability(ITEMS[:1]) == 1.0


def test_an_item_no_longer_shown_fades() -> None:
    frequency = feed(StreamingFrequency(), np.full(60, 0.2), 2000, 4)
    shown_before = frequency.probability(ITEMS[:1])[0]
    feed(frequency, np.where(np.arange(60) == 0, 0.0, 0.2), 3000, 5)
    assert frequency.probability(ITEMS[:1])[0] < 0.3 * shown_before


def test_the_first_estimates_are_means() -> None:
    frequency = StreamingFrequency(start=1000)
    for step in (1010, 1020, 1030):
        frequency.learn(ITEMS[:1], step)
    assert frequency.probability(ITEMS[:1])[0] == pytest.approx(0.1)


def test_state_goes_through_json_and_on() -> None:
    frequency = feed(StreamingFrequency(rows=3, width=101, alpha=0.05), np.full(60, 0.1), 300, 6)
    state: dict[str, Any] = frequency.state()
    listed = json.loads(json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}))
    for restored in (StreamingFrequency.from_state(state), StreamingFrequency.from_state(listed)):
        assert np.array_equal(restored.probability(ITEMS), frequency.probability(ITEMS))
    later = feed(StreamingFrequency.from_state(listed), np.full(60, 0.1), 50, 7).probability(ITEMS)
    assert np.array_equal(later, feed(frequency, np.full(60, 0.1), 50, 7).probability(ITEMS))


def test_a_state_does_not_follow_later_steps() -> None:
    frequency = feed(StreamingFrequency(), np.full(60, 0.1), 50, 6)
    state = frequency.state()
    before = StreamingFrequency.from_state(state).probability(ITEMS)
    feed(frequency, np.full(60, 0.5), 50, 7)
    assert np.array_equal(StreamingFrequency.from_state(state).probability(ITEMS), before)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="alpha is 0"):
        StreamingFrequency(alpha=0.0)
    with pytest.raises(ValueError, match="rows and width"):
        StreamingFrequency(rows=0)
    frequency = StreamingFrequency()
    frequency.learn(ITEMS[:2], 5)
    with pytest.raises(ValueError, match="step is 5, expected more than the last one, 5"):
        frequency.learn(ITEMS[:2], 5)
    with pytest.raises(ValueError, match="shapes"):
        StreamingFrequency.from_state({**frequency.state(), "gap": np.zeros((1, 2))})


def test_after_quickening_it_follows_a_switch_faster() -> None:
    probabilities = np.geomspace(0.5, 0.05, 60)
    errors = []
    for factor in (1.0, 10.0):
        frequency = feed(StreamingFrequency(alpha=0.01), probabilities, 5000, 1)
        frequency.quicken(factor)
        errors.append(log_error(feed(frequency, probabilities[::-1], 300, 2), probabilities[::-1]))
    assert errors[1] < 0.7 * errors[0]
    with pytest.raises(ValueError, match="factor is 0"):
        StreamingFrequency().quicken(0.5)
