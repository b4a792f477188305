"""The demo as people run it: to its report, into a wall, and interrupted."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import NewTopic

from ops.kafka import EmbeddedKafka
from streams.cluster import Cluster

ROOT = Path(__file__).parents[2]
RANKERS = {"driftline", "greedy", "recent_popularity", "last_item", "co_occurrence"}
LONG_AGO = "demo-20200101-000000"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def data_dir(tmp_path: Path, jar_cache: Path) -> Path:
    """A data folder of this test's own, with what this machine has downloaded before."""
    folder = tmp_path / "data"
    (folder / "kafka").mkdir(parents=True)
    for cache, link in (
        (jar_cache, folder / "kafka" / "jars"),
        (jar_cache.parents[1] / "datasets", folder / "datasets"),
    ):
        cache.mkdir(parents=True, exist_ok=True)
        link.symlink_to(cache)
    return folder


@pytest.fixture
def demo(data_dir: Path) -> Iterator[Start]:
    """Start `driftline demo` with the arguments, and settings as keywords."""
    started: list[subprocess.Popen[str]] = []
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}

    def start(*arguments: str, **settings: str) -> subprocess.Popen[str]:
        variables = {f"DRIFTLINE_{name.upper()}": value for name, value in settings.items()}
        environment = {**clean, "PYTHONPATH": str(ROOT), "DRIFTLINE_DATA_DIR": str(data_dir), "COLUMNS": "160"}
        running = subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "demo", *arguments],
            env=environment | variables,
            cwd=data_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(running)
        return running

    yield start
    for running in started:
        if running.poll() is None:  # the test failed
            running.terminate()
            running.wait()


def left_behind(data_dir: Path) -> list[str]:
    """Processes of this data folder, other than the broker."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DRIFTLINE_DATA_DIR") == str(data_dir) and "java" not in process.name():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.broker
@pytest.mark.timeout(900)
def test_three_hundred_events_to_the_report(demo: Start, data_dir: Path, tmp_path: Path) -> None:
    """With a broker that it starts and stops itself."""
    running = demo("--exit", "--events", "300", "--report", str(tmp_path / "r.json"))
    said, _ = running.communicate()
    assert running.returncode == 0, said
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["events_in"] == 300 == found["slates"] + found["coalesced"]
    assert (found["lost"], found["duplicates"], found["foreign"], found["unanswered"]) == (0, 0, 0, 0)
    assert found["warm_up"]["events"] == 20_000
    assert found["dead_letters"] == 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert found["hit_rate_at_10"].keys() == found["ndcg_at_10"].keys() == RANKERS
    assert found["scored"] + sum(found["unscored"].values()) == 300
    assert found["propensity"]["sum_check_max_error"] < 1e-6
    assert found["propensity"]["published_max_error"] < 1e-9
    assert found["propensity"]["decisions_checked"] > 0
    assert found["release"] and found["seconds_to_first_slate"] > 0
    assert "windowed co-occurrence" in said
    assert left_behind(data_dir) == []
    assert not EmbeddedKafka(data_dir / "kafka" / "broker", data_dir / "kafka" / "jars").running


@pytest.mark.broker
def test_a_process_that_dies_ends_the_demo_with_its_last_words(demo: Start, data_dir: Path, bootstrap: str) -> None:
    running = demo("--exit", "--events", "10", bootstrap_servers=bootstrap, encoder_path="/nowhere")
    said, _ = running.communicate()
    assert running.returncode == 1
    assert "error: the demo's embedder ended with status 1" in said
    assert "/nowhere" in said and "embedder.log" in said
    assert left_behind(data_dir) == []


@pytest.mark.broker
async def test_interrupted_it_ends_what_it_started_and_nothing_else(
    demo: Start, data_dir: Path, jar_cache: Path
) -> None:
    """On a broker that ran before, whose topics of an earlier demo are gone afterwards."""
    kafka = EmbeddedKafka(data_dir / "kafka" / "broker", jar_cache)
    await asyncio.to_thread(kafka.start)
    try:
        admin = Cluster(kafka.address).admin()
        await admin.start()
        await admin.create_topics([NewTopic(f"{LONG_AGO}.events", 1, 1), NewTopic("demo-of-mine", 1, 1)])
        (data_dir / "demo" / LONG_AGO).mkdir(parents=True)
        running = demo()
        await asyncio.to_thread(wait_for_line, running, "titles and genres")
        topics = await admin.list_topics()
        await admin.close()
        running.send_signal(signal.SIGINT)
        said, _ = await asyncio.to_thread(running.communicate)
        assert running.returncode == 130, said
        assert left_behind(data_dir) == []
        assert kafka.running
        assert "demo-of-mine" in topics and f"{LONG_AGO}.events" not in topics
        assert any(topic.startswith("demo-2") and topic.endswith(".recommendations") for topic in topics)
        assert not (data_dir / "demo" / LONG_AGO).exists()
    finally:
        await asyncio.to_thread(kafka.purge, force_stop=True)


def wait_for_line(running: subprocess.Popen[str], words: str) -> None:
    assert running.stdout is not None
    until = time.monotonic() + 120
    for line in running.stdout:
        if words in line:
            return
        assert time.monotonic() < until
    raise AssertionError(f"it ended without saying {words!r}")


def test_two_demos_at_once_are_refused(demo: Start, data_dir: Path) -> None:
    (data_dir / "demo").mkdir()
    with (data_dir / "demo" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = demo("--exit", bootstrap_servers="127.0.0.1:1")
        said, _ = running.communicate()
    assert running.returncode == 1
    assert "another demo is running" in said and "DRIFTLINE_DATA_DIR" in said
    assert [path.name for path in (data_dir / "demo").iterdir()] == [".lock"]


def test_a_cluster_that_does_not_answer_is_one_line(demo: Start) -> None:
    running = demo("--exit", bootstrap_servers="127.0.0.1:1")
    said, _ = running.communicate()
    assert running.returncode == 1
    assert "error: no Kafka answers at 127.0.0.1:1" in said and "Traceback" not in said


def test_a_report_without_a_folder_is_refused_at_once(demo: Start) -> None:
    running = demo("--exit", "--report", "/nowhere/r.json")
    said, _ = running.communicate()
    assert running.returncode == 1 and "/nowhere/r.json" in said
