"""The throughput benchmark, very small, on the test broker: every contender runs, and is fed and measured alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.throughput import LIMIT, PLAIN, Size, report, run, table
from models.config import EvolutionConfig
from ops.kafka import EmbeddedKafka
from streams.cluster import Cluster


@pytest.mark.broker
async def test_every_contender_is_measured(broker: EmbeddedKafka, cluster: Cluster, tmp_path: Path) -> None:
    pid = broker.status().pid
    assert pid is not None
    small = EvolutionConfig(dim=16, layers=2, heads=2, window=8, hidden=32)
    figures = await run(cluster, pid, tmp_path, Size(events=800, items=400, users=800, seconds=1), print, small)
    assert list(figures) == ["driftline", PLAIN, "driftline, marginals off", LIMIT, "bare loop", "Faust table"]
    for one in figures.values():
        assert one.events_per_s > 0
        assert one.cpu_us_per_event >= 0  # the system counts hundredths of a second
        assert 0 < one.slates_per_event <= 1
        assert 0 < one.latency_p50_ms <= one.latency_p99_ms
    assert figures["Faust table"].events_per_transaction is None
    # The limit writes what driftline wrote; states come coalesced, so their number depends on the batches.
    written = figures["driftline"].bytes_per_event
    assert figures[LIMIT].bytes_per_event == pytest.approx(written, rel=0.3)
    assert figures["bare loop"].bytes_per_event == pytest.approx(written, rel=0.3)
    assert figures["Faust table"].bytes_per_event < 0.5 * written
    assert report(figures, {})["contenders"][LIMIT]["to_limit"]["events_per_s"] == 1  # type: ignore[index]
    assert table(figures).row_count == 8
