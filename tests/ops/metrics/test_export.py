"""Nothing undefined gets out, no label takes a value that a message could hold, what is not there is absent."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.metrics.definitions import MOST_VALUES
from ops.metrics.export import Samples, metrics_page
from streams.measures import Histogram


def series(samples: Samples) -> dict[tuple[str, ...], float]:
    """What a scrape of `samples` gives of driftline, by name and label values."""
    text = metrics_page(lambda job: samples)(None).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
        if sample.name.startswith("driftline_")
    }


def test_a_reason_that_is_none_is_counted_as_other() -> None:
    found = series({"dead_letters_total": {("schema",): 2.0, ("<script>",): 3.0, ("user-17",): 4.0}})
    assert found == {
        ("driftline_dead_letters_total", "schema"): 2.0,
        ("driftline_dead_letters_total", "other"): 7.0,
    }


def test_an_open_label_has_a_bounded_number_of_series() -> None:
    found = series({"lag_events": {(str(number),): 1.0 for number in range(1000)}})
    assert len(found) == MOST_VALUES + 1
    assert sum(found.values()) == 1000
    assert found["driftline_lag_events", "other"] == 1000 - MOST_VALUES


def test_what_is_not_there_is_absent_and_not_nought() -> None:
    found = series({"age_seconds": {("release",): 1.5, ("estimator",): None}, "hit_ratio": {(): None}})
    assert found == {("driftline_age_seconds", "release"): 1.5}


def test_a_metric_that_is_not_defined_is_refused() -> None:
    with pytest.raises(KeyError):
        series({"secret_total": {(): 1.0}})


def test_a_histogram_ends_with_all_there_is() -> None:
    histogram = Histogram([0.1, 1.0])
    histogram.add(0.05, 3)
    histogram.add(5.0)
    found = series({"event_latency_seconds": {(): histogram}})
    assert found == {
        ("driftline_event_latency_seconds_bucket", "0.1"): 3,
        ("driftline_event_latency_seconds_bucket", "1.0"): 3,
        ("driftline_event_latency_seconds_bucket", "+Inf"): 4,
        ("driftline_event_latency_seconds_count",): 4,
        ("driftline_event_latency_seconds_sum",): pytest.approx(5.15),
    }


def test_the_figures_of_the_process_stand_beside_them() -> None:
    assert b"process_resident_memory_bytes" in metrics_page(lambda job: {})(None)
