"""What the topic `models` says, and who may say it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from streams.cluster import Cluster
from streams.contracts import ReleasePointer, encode
from streams.estimators import Estimators
from streams.releases import ESTIMATOR_KEY, Published, SnapshotWriter, pointer_to, publish_release, read_models
from streams.topics import Topics
from tests import small
from tests.conftest import Wire


def test_a_pointer_names_the_folder_and_the_digest_of_its_weights(tmp_path: Path):
    path = small.release().save(tmp_path)
    pointer = pointer_to(path, 7)
    assert pointer.release == small.release().id
    assert pointer.created == 7
    assert pointer.digest == hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError):
        pointer_to(tmp_path / "nothing", 7)


@pytest.mark.broker
async def test_the_last_of_each_key_counts(cluster: Cluster, topics: Topics):
    assert await read_models(cluster, topics.models) == Published()
    first, second = (ReleasePointer(name, "0" * 64, 1) for name in ("r1", "r2"))
    snapshot = Estimators().snapshot({0: 3}, 5)
    writer = SnapshotWriter(cluster, "app", topics.models)
    await writer.open()
    await publish_release(cluster, topics.models, first)
    await writer.publish(snapshot, b"audit")
    await publish_release(cluster, topics.models, second)
    await writer.close()
    assert await read_models(cluster, topics.models) == Published(second, snapshot, b"audit")


@pytest.mark.broker
async def test_a_null_value_takes_it_back_and_nonsense_is_named(cluster: Cluster, topics: Topics, wire: Wire):
    await publish_release(cluster, topics.models, ReleasePointer("r1", "0" * 64, 1))
    await wire.produce(topics.models, [(ESTIMATOR_KEY, encode(Estimators().snapshot({}, 0))), (ESTIMATOR_KEY, None)])
    published = await read_models(cluster, topics.models)
    assert (published.release is not None, published.estimator, published.audit) == (True, None, None)
    await wire.produce(topics.models, [(b"release", b'{"kind": "estimator"}')])
    with pytest.raises(ValueError, match=r"offset \d+, key b'release' cannot be read: .* starts over"):
        await read_models(cluster, topics.models)
