"""What tests share: one real broker for the run, topics of one's own for each test, reading and writing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from ops.kafka import EmbeddedKafka
from ops.settings import default_data_dir
from streams.cluster import Cluster
from streams.topics import Topics, create

# Where the jars are kept from run to run: read before a test points the variable elsewhere.
JAR_CACHE = Path(os.environ.get("DRIFTLINE_DATA_DIR") or default_data_dir()) / "kafka" / "jars"


@pytest.fixture(scope="session")
def jar_cache() -> Path:
    return JAR_CACHE


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, jar_cache: Path) -> Iterator[EmbeddedKafka]:
    """A running Kafka; it dies with the test run, however that ends."""
    # Records of tests may be dated years ago: retention would delete them whenever the broker looks for it.
    never = {"log.retention.check.interval.ms": str(24 * 3600 * 1000)}
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("broker") / "kafka", jar_cache, tied=True, properties=never)
    kafka.start()
    yield kafka
    kafka.purge(force_stop=True)


@pytest.fixture(scope="session")
def bootstrap(broker: EmbeddedKafka) -> str:
    """The broker's `host:port`."""
    assert broker.address is not None
    return broker.address


@pytest.fixture(scope="session")
def cluster(bootstrap: str) -> Cluster:
    """The broker, as the code under test is given it."""
    return Cluster(bootstrap)


@pytest.fixture
def partitions() -> int:
    """How many `topics` gets; override with `@pytest.mark.parametrize("partitions", [1])`."""
    return 4


@pytest.fixture
async def topics(cluster: Cluster, partitions: int) -> AsyncIterator[Topics]:
    """All topics under a prefix of this test's own."""
    topics = Topics(f"test-{uuid.uuid4().hex[:8]}.")
    await create(cluster, topics, partitions)
    yield topics
    admin = cluster.admin()
    await admin.start()
    try:
        await admin.delete_topics(list(topics.all))
    finally:
        await admin.close()
    gc.collect()  # what a test left unclosed is said in that test, not in a later one


def settings_of_worker(bootstrap: str, topics: Topics, partitions: int, folder: Path) -> dict[str, str]:
    """How tests run `driftline worker`: small batches and slates, a session short enough to be waited for."""
    from tests import small

    return {
        "DRIFTLINE_BOOTSTRAP_SERVERS": bootstrap,
        "DRIFTLINE_TOPIC_PREFIX": topics.prefix,
        "DRIFTLINE_APP_ID": f"{topics.prefix}app",
        "DRIFTLINE_PARTITIONS": str(partitions),
        "DRIFTLINE_DATA_DIR": str(folder),
        "DRIFTLINE_ENGINE_MAX_BATCH_RECORDS": "16",
        "DRIFTLINE_ENGINE_SESSION_TIMEOUT_S": "6",
        "DRIFTLINE_EVENTS_ACTIONS": ",".join(small.RULES.actions),
        "DRIFTLINE_POLICY_CANDIDATES": "20",
        "DRIFTLINE_POLICY_SLATE_SIZE": "5",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def worker_settings(bootstrap: str, topics: Topics, partitions: int, tmp_path: Path) -> dict[str, str]:
    return settings_of_worker(bootstrap, topics, partitions, tmp_path)


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(worker_settings: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts `driftline worker` processes, with further settings; kills what is left of them."""
    running: list[subprocess.Popen[bytes]] = []

    def start_worker(**more: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "ops.cli", "worker"]
            environment = os.environ | worker_settings | more
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return running[-1]

    yield start_worker
    for process in running:
        process.kill()
        process.wait()
    if running:
        print((tmp_path / "worker.log").read_text()[-4000:])  # shown when the test fails


@dataclass(frozen=True)
class Wire:
    """Writes to topics and reads them whole."""

    cluster: Cluster

    async def produce(
        self, topic: str, records: Iterable[tuple[bytes | None, bytes | None]], partition: int | None = None
    ) -> None:
        """Write (key, value) pairs, by key to the usual partition unless one is given."""
        producer = self.cluster.producer()
        await producer.start()
        try:
            for key, value in records:
                await producer.send(topic, key=key, value=value, partition=partition)
        finally:
            await producer.stop()  # flushes

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """Every committed record up to now, partition by partition, in order of offset."""
        consumer = self.cluster.consumer(topic)
        await consumer.start()
        try:
            return await self._read(consumer, topic)
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, topic: str) -> list[ConsumerRecord]:
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        assert numbers, f"no topic {topic}"
        found = [TopicPartition(topic, number) for number in numbers]
        ends = await consumer.end_offsets(found)
        records: list[ConsumerRecord] = []
        for partition in found:
            while await consumer.position(partition) < ends[partition]:
                for batch in (await consumer.getmany(partition, timeout_ms=200)).values():
                    records += [record for record in batch if record.offset < ends[partition]]
        return records


@pytest.fixture
def wire(cluster: Cluster) -> Wire:
    return Wire(cluster)
