"""Every definition is read off a real process, or is known to wait for its source."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.kafka import ports
from ops.metrics.definitions import DEFINITIONS
from ops.metrics.export import Samples
from ops.metrics.readings import fairness, of_embedder, of_learner
from policy.fairness import FairnessConfig, Steering
from streams.cluster import Cluster
from streams.embedder import EmbedderMeasures
from streams.learner import Learner, LearnerConfig
from streams.measures import STAGES
from streams.topics import Topics
from tests import small
from tests.conftest import Start, Wire
from tests.streams.test_worker import events, publish_world, until_covered


def check(samples: Samples, process: str) -> None:
    """Nothing is read that the definitions do not give this process."""
    for name, values in samples.items():
        assert process in DEFINITIONS[name].processes
        assert all(len(labels) == len(DEFINITIONS[name].labels) for labels in values)


def test_an_embedder_says_what_it_did() -> None:
    measures = EmbedderMeasures()
    measures.encoded, measures.dead["schema"] = 3, 1
    samples = of_embedder(measures)
    check(samples, "embedder")
    assert samples["embedded_items_total"] == {("encoded",): 3, ("remembered",): 0}
    assert samples.keys() == {name for name, metric in DEFINITIONS.items() if "embedder" in metric.processes}


def test_exposure_by_group_is_said_as_far_as_it_is_known() -> None:
    config = FairnessConfig(items={"new": ["New"], "old": ["Old"]}, users=["a", "b"])
    nothing = np.full((2, 2), np.nan)
    share, target = np.array([[0.3, 0.7], [np.nan, np.nan]]), np.array([[0.5, 0.5], [0.9, 0.1]])
    steering = Steering(nothing, share, target, nothing, np.ones(2), 1.0, 1.0, None)
    found = fairness((config, steering))
    assert found["exposure_ratio"] == {("a/new",): 0.3, ("a/old",): 0.7}
    assert found["fairness_gap_ratio"] == {(): pytest.approx(0.2)}
    unknown = Steering(nothing, nothing, target, nothing, np.zeros(2), 1.0, 1.0, None)
    assert fairness((config, unknown)) == {"exposure_ratio": {}, "fairness_gap_ratio": {(): None}}
    assert fairness(None) == {}


async def test_a_learner_that_stands_by_says_nothing_of_estimators() -> None:
    learner = Learner(LearnerConfig(Cluster("127.0.0.1:9"), "app", "outcomes", "models"))
    try:
        standing = of_learner(learner)
        check(standing, "learner")
        assert standing["learner_active"] == {("estimators",): 0.0}
        assert "hit_ratio" not in standing
        learner.duties[0].term = learner.duties[0]._begin(asyncio.Event())
        learner.measures.add(small.outcome(["i1"]))
        active = of_learner(learner)
        check(active, "learner")
        assert active["learner_active"] == {("estimators",): 1.0}
        assert active["hit_ratio"] == {(): 0.0}
        assert active["outcomes_total"] == {("driftline", "window", "false"): 1.0}
        await learner.duties[0].term._consumer.stop()  # type: ignore[attr-defined]
        await learner.duties[0].term._writer.close()  # type: ignore[attr-defined]
    finally:
        await learner._election.stop()


@contextmanager
def scraped(port: int) -> Iterator[dict[tuple[str, ...], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    yield {
        (sample.name, *sample.labels.values()): sample.value
        for metric in text_string_to_metric_families(text)
        for sample in metric.samples
    }


@pytest.mark.broker
async def test_a_worker_says_all_that_is_defined_and_it_adds_up(
    wire: Wire, topics: Topics, start: Start, tmp_path: Path
) -> None:
    port = ports.free()
    release = await publish_world(wire, topics, tmp_path)
    start(DRIFTLINE_WORKER_WEB_PORT=str(port))
    await wire.produce(topics.events, [*events(40), (b"u1", b"{"), *events(40, 40)])
    await until_covered(wire, topics, 80)
    await asyncio.sleep(1.1)  # until recall is due
    await wire.produce(topics.events, events(20, 80))
    found = await until_covered(wire, topics, 100)
    with scraped(port) as series:
        pass
    names = {name for name, *_ in series}
    unfair = ("exposure_ratio", "fairness_gap_ratio")  # only where something is steered
    expected = [one for one in DEFINITIONS.values() if "worker" in one.processes and one.name not in unfair]
    for metric in expected:
        assert names & {metric.full_name, f"{metric.full_name}_bucket"}, metric.name
    assert series["driftline_events_total",] == len(found) + 1 == 101
    assert series["driftline_dead_letters_total", "malformed_json"] == 1
    slates = sum(series["driftline_slates_total", arm] for arm in ("policy", "uniform"))
    assert slates + series["driftline_coalesced_events_total",] == 100
    for stage in STAGES:
        count = series["driftline_stage_seconds_count", stage]
        assert 100 <= count <= 101, stage
    assert series["driftline_ready",] == 1
    assert series["driftline_release_info", release] == 1
    assert series["driftline_items",] == 40
    assert ("driftline_age_seconds", "estimator") not in series  # there is none
    assert series["driftline_age_seconds", "catalogue"] < 30
    assert series["driftline_index_recall_ratio", "mean"] == 1.0
    assert 0 < series["driftline_catalogue_reach_ratio",] <= 1
    assert not any("u1" in labels for _, *labels in series)


@pytest.mark.broker
def test_an_embedder_serves_its_figures(topics: Topics, worker_settings: dict[str, str]) -> None:
    port = ports.free()
    command = [sys.executable, "-m", "ops.cli", "embed", "--web-port", str(port)]
    with subprocess.Popen(command, env=os.environ | worker_settings, stderr=subprocess.DEVNULL) as process:
        try:
            series = _once_ready(port)
        finally:
            process.terminate()
    assert series["driftline_ready",] == 1
    assert series["driftline_embedded_items_total", "encoded"] == 0


def _once_ready(port: int) -> dict[tuple[str, ...], float]:
    import time

    for _ in range(600):
        try:
            with scraped(port) as series:
                if series["driftline_ready",] == 1:
                    return series
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError("it was never ready")
