"""The commands as people run them: settings, topics, and the life of the embedded Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.kafka import EmbeddedKafka
from streams.names import PLAIN_NAMES

Driftline = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir(tmp_path: Path, jar_cache: Path) -> Path:
    """A data folder of this test's own, with the jars of the machine."""
    folder = tmp_path / "data"
    (folder / "kafka").mkdir(parents=True)
    jar_cache.mkdir(parents=True, exist_ok=True)
    (folder / "kafka" / "jars").symlink_to(jar_cache)
    return folder


@pytest.fixture
def driftline(data_dir: Path) -> Driftline:
    """Run `driftline` with the arguments, and settings as keywords."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        variables = {f"DRIFTLINE_{name.upper()}": value for name, value in settings.items()}
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            env={**clean, "PYTHONPATH": str(ROOT), "DRIFTLINE_DATA_DIR": str(data_dir), "COLUMNS": "160"} | variables,
            cwd=data_dir,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def embedded(data_dir: Path) -> Iterator[EmbeddedKafka]:
    """The broker that the command line starts; gone after the test."""
    kafka = EmbeddedKafka(data_dir / "kafka" / "broker", data_dir / "kafka" / "jars")
    yield kafka
    kafka.purge(force_stop=True)


@pytest.mark.broker
def test_kafka_outlives_the_command_and_is_found_again(driftline: Driftline, embedded: EmbeddedKafka) -> None:
    started = driftline("kafka", "start")
    assert started.stdout == f"Kafka is ready at {embedded.address}\n", started.stderr
    assert driftline("kafka", "start").stdout == f"Kafka runs already at {embedded.address}\n"
    status = driftline("kafka", "status").stdout
    assert "running" in status and str(embedded.address) in status and "memory" in status
    assert "created events" in driftline("topics", "create").stdout  # it finds the address by itself
    refused = driftline("kafka", "purge")
    assert refused.returncode == 1 and "--force-stop" in refused.stderr
    assert driftline("kafka", "purge", "--force-stop").stdout == "Kafka's data is deleted.\n"
    assert not embedded.running and not embedded.folder.exists()


def test_commands_say_when_nothing_runs(driftline: Driftline) -> None:
    assert driftline("kafka", "stop").stdout == "Kafka was not running.\n"
    assert driftline("kafka", "purge").stdout == "There was nothing to delete.\n"
    assert "stopped" in driftline("kafka", "status").stdout
    assert json.loads(driftline("kafka", "status", "--json").stdout)["running"] is False
    nothing = driftline("topics", "verify")
    assert nothing.returncode == 1 and nothing.stderr.splitlines()[1] == "Start it with `driftline kafka start`."


def test_kafka_is_not_started_beside_the_one_that_is_set(driftline: Driftline, embedded: EmbeddedKafka) -> None:
    start = driftline("kafka", "start", bootstrap_servers="kafka-1:9092")
    assert start.returncode == 0 and start.stdout.startswith("Not needed") and "kafka-1:9092" in start.stdout
    assert not embedded.running


def test_an_unreachable_kafka_is_one_line(driftline: Driftline) -> None:
    verified = driftline("topics", "verify", bootstrap_servers="127.0.0.1:1")
    assert verified.returncode == 1
    assert verified.stderr.splitlines() == [
        "error: no Kafka answers at 127.0.0.1:1",
        "See `driftline kafka status`, or check DRIFTLINE_BOOTSTRAP_SERVERS.",
    ]


@pytest.mark.broker
def test_topics_are_created_and_checked(driftline: Driftline, bootstrap: str) -> None:
    mine = {"bootstrap_servers": bootstrap, "topic_prefix": "commands."}
    missing = driftline("topics", "verify", **mine)
    told = driftline("topics", "verify", "--json", **mine)
    assert told.returncode == 1 and len(json.loads(told.stdout)["problems"]) == len(PLAIN_NAMES)
    assert missing.returncode == 1 and "commands.events is missing" in missing.stderr
    created = driftline("topics", "create", partitions="2", **mine)
    assert created.returncode == 0 and "created commands.events" in created.stdout
    assert driftline("topics", "verify", partitions="2", **mine).returncode == 0
    wrong = driftline("topics", "verify", **mine)
    assert wrong.returncode == 1 and "set DRIFTLINE_PARTITIONS=2" in wrong.stderr
    refused = driftline("topics", "create", bootstrap_servers=bootstrap, topic_prefix="refused.", replication="2")
    assert refused.returncode == 1 and "DRIFTLINE_REPLICATION" in refused.stderr


def test_settings_show_value_origin_and_meaning(driftline: Driftline, data_dir: Path) -> None:
    (data_dir / "driftline.toml").write_text("partitions = 8")
    shown = json.loads(driftline("settings", "--json", app_id="shop").stdout)
    assert shown["partitions"]["value"] == 8 and shown["partitions"]["origin"] == "file"
    assert shown["app_id"]["value"] == "shop" and shown["app_id"]["origin"] == "environment"
    assert shown["app_id"]["variable"] == "DRIFTLINE_APP_ID"
    table = driftline("settings", app_id="shop").stdout
    assert all(name in table for name in shown)
    [line] = [line for line in table.splitlines() if line.split()[:1] == ["app_id"]]
    assert line.split()[:3] == ["app_id", "shop", "environment"]


def test_a_bad_setting_stops_every_command(driftline: Driftline) -> None:
    for command in (["settings"], ["kafka", "status"], ["topics", "create"]):
        stopped = driftline(*command, partitions="none")
        assert stopped.returncode == 1
        assert stopped.stderr.startswith("error: DRIFTLINE_PARTITIONS='none' (environment): should be a valid integer")
