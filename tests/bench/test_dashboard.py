"""The dashboard's benchmark, very small, on the test broker: windows in turn, then its memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import watched
from bench.dashboard import Watched, cost, course_of, run
from bench.watched import Window, interval, ratios
from models.config import EvolutionConfig
from ops.kafka import EmbeddedKafka
from streams.cluster import Cluster


@pytest.mark.broker
async def test_a_stopped_dashboard_costs_nothing_and_a_watched_one_is_measured(
    broker: EmbeddedKafka, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "SETTLE_S", 0.5)
    monkeypatch.setattr(watched, "SAMPLE_S", 2.0)
    pid = broker.status().pid
    assert pid is not None
    small = EvolutionConfig(dim=16, layers=2, heads=2, window=8, hidden=32)
    found = await run(cluster, pid, tmp_path, (400, 400, 100), (1, 1, 3, 1, 50), lambda told: None, small)
    off, on = found.windows
    assert (off.watched, off.dashboard_cpu) == (False, 0) and on.watched and on.dashboard_cpu > 0
    assert off.events_per_s > 0 and on.worker_cpu > 0 and on.broker_cpu > 0
    (memory,) = found.memory
    assert memory.updates >= 3 and memory.loads >= 1 and memory.rss_mb > 10
    assert cost(found).row_count == 6 and course_of(found.memory).row_count == 1


def window(events_per_s: float, seen: bool) -> Window:
    return Window(seen, events_per_s, 0, 1, 1, 0, 0)


def test_windows_are_compared_with_their_neighbour_in_whichever_order() -> None:
    windows = [window(100, False), window(90, True), window(45, True), window(50, False)]
    assert ratios(windows) == pytest.approx([0.9, 0.9])
    mean, low, high = interval([0.8, 0.9, 1.0, 0.9])
    assert mean == pytest.approx((0.8 * 0.9 * 1.0 * 0.9) ** 0.25)
    assert low < mean < high
    assert "0.900 (0.900 to 0.900)" in str(cost(Watched(100, windows, [])).title)
