"""The jars: all or nothing in the cache, torn downloads noticed, failures told in words."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.errors import CliError
from ops.kafka import jars


@dataclass
class Artifact:
    """Stands in for a jar of Maven Central: each resolve delivers the next of `deliveries`."""

    filename: str
    folder: Path
    deliveries: list[bytes | Exception] = field(default_factory=list)

    def resolve(self) -> Path:
        path = self.folder / self.filename
        if not path.exists():
            delivery = self.deliveries.pop(0)
            if isinstance(delivery, Exception):
                raise delivery
            path.write_bytes(delivery)
        return path


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    with zipfile.ZipFile(tmp_path / "any.jar", "w") as jar:
        jar.writestr("a.class", bytes(1000))
    return (tmp_path / "any.jar").read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *deliveries: list[bytes | Exception]) -> None:
    maven = tmp_path / "maven"
    maven.mkdir()
    artifacts = [Artifact(f"{n}.jar", maven, delivery) for n, delivery in enumerate(deliveries)]
    monkeypatch.setattr(jars, "_artifacts", lambda: artifacts)


def test_every_jar_arrives_and_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, whole: bytes
) -> None:
    offer(monkeypatch, tmp_path, [whole], [whole])
    said: list[str] = []
    folder = jars.jars(cache, said.append)
    assert sorted(path.name for path in folder.iterdir()) == ["0.jar", "1.jar"]
    assert said[-1] == f"Kafka {jars.KAFKA_VERSION}: jar 2 of 2, 1.jar"


def test_they_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, whole: bytes) -> None:
    offer(monkeypatch, tmp_path, [whole])
    folder = jars.jars(cache, str)
    monkeypatch.setattr(jars, "_artifacts", lambda: pytest.fail("fetched again"))
    assert jars.jars(cache, str) == folder


def test_a_torn_jar_is_fetched_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, whole: bytes) -> None:
    offer(monkeypatch, tmp_path, [whole[:500], whole])
    assert (jars.jars(cache, str) / "0.jar").read_bytes() == whole


def test_a_jar_that_stays_torn_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, whole: bytes
) -> None:
    flipped = whole.replace(bytes(100), bytes(99) + b"x", 1)
    offer(monkeypatch, tmp_path, [flipped, flipped])
    with pytest.raises(CliError, match=r"could not be downloaded.*0\.jar arrives damaged"):
        jars.jars(cache, str)


def test_a_failed_download_leaves_nothing_and_says_what_to_check(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path, whole: bytes
) -> None:
    offer(monkeypatch, tmp_path, [whole], [ConnectionError("no route to host")])
    with pytest.raises(CliError, match="no route to host") as caught:
        jars.jars(cache, str)
    assert "HTTPS_PROXY" in caught.value.next_step
    assert "DRIFTLINE_BOOTSTRAP_SERVERS" in caught.value.next_step
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_an_unwritable_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CliError, match=f"cannot be written: {tmp_path / 'file'}") as caught:
        jars.jars(tmp_path / "file", str)
    assert "DRIFTLINE_DATA_DIR" in caught.value.next_step


@pytest.mark.broker
def test_clients_and_broker_are_of_one_version(jar_cache: Path) -> None:
    """Maven's mediation once put kafka-clients 3.8 beside the 4.3 broker."""
    names = {path.name for path in jars.jars(jar_cache, str).iterdir()}
    ours = {name for name in names if name.startswith("kafka")}
    assert f"kafka-clients-{jars.KAFKA_VERSION}.jar" in ours
    assert f"kafka-tools-{jars.KAFKA_VERSION}.jar" in ours
    assert {name for name in ours if not name.endswith(f"-{jars.KAFKA_VERSION}.jar")} == set()
