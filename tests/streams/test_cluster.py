"""How clients are made: by `Cluster` and by nobody else, committed records from the start unless told otherwise."""

from __future__ import annotations

import ast
import contextlib
from pathlib import Path

import pytest

import streams.cluster
from streams.cluster import Cluster, running

ROOT = Path(streams.cluster.__file__).parents[1]
CLIENTS = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaAdminClient", "AIOKafkaClient"}


def makers(source: str) -> list[int]:
    """Lines of a Python source where a client is made, or imported under another name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found += [node.lineno] if name in CLIENTS else []
        elif isinstance(node, ast.ImportFrom):
            found += [node.lineno for alias in node.names if alias.name in CLIENTS and alias.asname]
    return found


def test_no_other_module_makes_clients() -> None:
    packages = [ROOT / name for name in ("streams", "ops", "evaluation", "policy", "index", "models", "bench")]
    sources = {path.relative_to(ROOT): path.read_text() for package in packages for path in package.rglob("*.py")}
    assert len(sources) > 100
    made = {str(path): lines for path, text in sources.items() if (lines := makers(text))}
    assert list(made) == ["streams/cluster.py"]
    assert len(made["streams/cluster.py"]) == 3


def test_clients_that_hide_are_found() -> None:
    assert makers("import aiokafka\nx = aiokafka.AIOKafkaConsumer()") == [2]
    assert makers("from aiokafka import AIOKafkaProducer as P\nP()") == [1]
    assert makers("from aiokafka import AIOKafkaProducer\ndef f(p: AIOKafkaProducer): ...") == []


async def test_consumers_read_committed_records_from_the_start_and_commit_nothing() -> None:
    for options, reset in (({}, "earliest"), ({"auto_offset_reset": "latest"}, "latest")):
        consumer = Cluster("nowhere:1").consumer(group_id="g", **options)
        set_to = (consumer._isolation_level, consumer._enable_auto_commit, consumer._auto_offset_reset)
        await consumer.stop()
        assert set_to == ("read_committed", False, reset)


def test_the_password_is_in_no_text_of_a_cluster() -> None:
    cluster = Cluster("broker:1", {"sasl_plain_password": "hunter2"})
    assert str(cluster) == "broker:1"
    assert "hunter2" not in f"{cluster!r} {cluster} {[cluster]}"
    with pytest.raises(AttributeError):
        cluster.security = {}  # type: ignore[misc]


class Client:
    """One that may be unable to start."""

    def __init__(self, starts: bool) -> None:
        self.starts, self.stopped = starts, 0

    async def start(self) -> None:
        if not self.starts:
            raise ConnectionError

    async def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize("starts", [True, False])
async def test_a_client_is_stopped_whether_it_started_or_not(starts: bool) -> None:
    client = Client(starts)
    with contextlib.suppress(ConnectionError):
        async with running(client) as started:
            assert started is client and not client.stopped
    assert client.stopped == 1
