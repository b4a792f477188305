"""The flow-control benchmark, very small, on the test broker: overload, catching up, and the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.flow import course_of, run, table
from models.config import EvolutionConfig
from ops.kafka import EmbeddedKafka
from streams.cluster import Cluster


@pytest.mark.broker
async def test_a_worker_is_overloaded_and_catches_up(broker: EmbeddedKafka, cluster: Cluster, tmp_path: Path) -> None:
    pid = broker.status().pid
    assert pid is not None
    small = EvolutionConfig(dim=16, layers=2, heads=2, window=8, hidden=32)
    (one,) = await run(cluster, pid, tmp_path, (800, 400, 200, 1), [16], print, small)
    assert (one.batch, one.lost, one.repeated) == (16, 0, 0)
    assert one.offered == pytest.approx(2 * one.drain.events_per_s)
    assert one.drain.events_per_transaction <= 16.5  # markers are counted to within one a partition
    last = one.samples[-1]
    assert (last.offered, last.lag) == (200 + 800 + round(one.offered), 0)
    assert last.transactions >= last.answered / 16
    assert max(sample.lag for sample in one.samples) == one.lag
    assert one.rss_mb >= last.rss_mb > 0 and one.catch_up_s > 0 and one.drain.cpu_us_per_event > 0
    assert table([one]).row_count == 10
    assert course_of(one).row_count >= 1
