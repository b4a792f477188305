"""What a worker is told of the world, and that nothing bad that is told can stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import TopicPartition

from models.serving import ServingModel
from streams import broadcast
from streams.broadcast import Broadcast, Shelf
from streams.contracts import EstimatorSnapshot, ItemVector, ReleasePointer, encode
from streams.estimators import Estimators
from streams.names import Topics
from tests import small
from tests.streams.model_kafka import ModelCluster, ModelConsumer, ModelKafka

Follow = Callable[[], Awaitable[Broadcast]]

POINTER = ReleasePointer("r0", "", small.START)


def load(pointer: ReleasePointer) -> ServingModel:
    if pointer.release == "missing":
        raise FileNotFoundError("no release at missing")
    return ServingModel(small.release(seed=int(pointer.release[1:])))


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf(load)
    shelf.tell_items(list(small.items().items()), (40,))
    shelf.tell_release(POINTER)
    shelf.take_release((40,))
    return shelf


def snapshot() -> EstimatorSnapshot:
    estimators = Estimators()
    estimators.learn(small.outcome(["i1", "i2"]))
    return estimators.snapshot({0: 1}, small.START)


def test_changes_are_picked_up_between_batches(shelf: Shelf) -> None:
    world = shelf.world()
    assert (len(world.index), world.position, world.estimator) == (40, (40,), None)
    shelf.tell_items([("i50", small.item_vector(50)), ("i7", None)], (42,))
    shelf.tell_estimator(snapshot())
    assert shelf.world() is world
    assert (len(world.index), world.position) == (40, (42,))
    assert world.estimator is not None
    assert (
        world.log_popularity[world.catalogue.slots(["i1"])[0]] > world.log_popularity[world.catalogue.slots(["i9"])[0]]
    )


def test_another_release_is_another_world_with_all_that_was_told(shelf: Shelf) -> None:
    first = shelf.world()
    shelf.tell_items([("i50", small.item_vector(50))], (41,))
    shelf.tell_estimator(snapshot())
    shelf.tell_release(ReleasePointer("r1", "", small.START))
    shelf.take_release((41,))
    shelf.tell_items([("i51", small.item_vector(51))], (42,))
    second = shelf.world()
    assert second is not first
    assert (len(second.index), second.position, second.estimator is not None) == (42, (42,), True)


def test_a_worker_without_events_keeps_one_change_of_a_kind(shelf: Shelf) -> None:
    for number in range(200):
        shelf.tell_estimator(snapshot())
        shelf.tell_items([("i1", small.item_vector(1))], (41 + number,))
    assert len(shelf._next_items) == 1
    assert shelf.world().position == (240,)


def test_a_release_that_is_not_there_yet_is_tried_again_and_the_last_good_one_stays(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast.time, "monotonic", lambda: 100.0)
    shelf.tell_release(ReleasePointer("missing", "", small.START))
    shelf.take_release((40,))
    assert shelf.loaded == "r0"
    assert shelf.world().model.release_id == small.release().id
    monkeypatch.setattr(shelf, "_load", lambda pointer: load(ReleasePointer("r1", "", 0)))
    shelf.take_release((40,))
    assert shelf.loaded == "r0", "not before its time"
    monkeypatch.setattr(broadcast.time, "monotonic", lambda: 1e12)
    shelf.take_release((40,))
    assert shelf.loaded == "missing"


def test_a_release_that_can_read_no_item_is_not_taken(shelf: Shelf) -> None:
    other = {name: msgspec.structs.replace(item, encoder="other") for name, item in small.items().items()}
    shelf.tell_items(list(other.items()), (80,))
    shelf.tell_release(ReleasePointer("r1", "", small.START))
    shelf.take_release((80,))
    assert shelf.loaded == "r0"


@dataclass
class Told:
    """A record as the consumer would deliver it."""

    key: bytes | None
    value: bytes | None
    offset: int = 7
    partition: int = 0


def vector(**changes: object) -> bytes:
    return encode(msgspec.structs.replace(small.item_vector(50), **changes))


def numbers(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    "record",
    [
        Told(b"i50", b"{"),
        Told(b"i51", vector()),
        Told(None, vector()),
        Told(None, None),
        Told(b"\xff", None),
        Told(b"i50", vector(vector_f32=numbers(*[float("nan")] * 16))),
        Told(b"i50", vector(vector_f32=numbers(*[1e38] * 16))),
        Told(b"i50", vector(vector_f32=b"abc")),
        Told(b"i50", vector(vector_f32=numbers(1, 2))),
        Told(b"i50", vector(year=99_999)),
        Told(b"x" * 300, vector(item="x" * 300)),
    ],
)
def test_a_bad_vector_is_left_out_and_the_others_are_not(record: Told) -> None:
    following = Broadcast.__new__(Broadcast)
    following._topics, following._shelf, following._position = Topics(), Shelf(load), {0: 0}
    good = [Told(name.encode(), encode(item)) for name, item in small.items().items()]
    following._tell({TopicPartition("item_vectors", 0): [*good, record]})
    following._tell({TopicPartition("models", 0): [Told(b"x", b"{"), Told(b"release", encode(POINTER))]})
    following._take_release()
    world = following._shelf.world()
    assert len(world.index) == 40
    assert np.isfinite(world.inputs).all()


def test_vectors_of_the_wrong_kind_never_reach_a_running_world(shelf: Shelf) -> None:
    world = shelf.world()
    short: ItemVector = msgspec.structs.replace(small.item_vector(50), vector_f32=numbers(1, 2))
    shelf.tell_items([("i50", short), ("i51", small.item_vector(51))], (42,))
    assert len(shelf.world().index) == 41
    assert "i51" in world.catalogue.ids(world.catalogue.alive_slots())


def test_an_estimator_that_cannot_be_unpacked_is_left_out(shelf: Shelf) -> None:
    good = snapshot()
    shelf.tell_estimator(good)
    broken = msgspec.structs.replace(good, frequency=msgspec.structs.replace(good.frequency, gap_f64=b"1234"))
    shelf.tell_estimator(msgspec.structs.replace(broken, estimator="broken"))
    told = shelf.world().estimator
    assert told is not None and told.estimator == good.estimator


class Answering(ModelCluster):
    """A model of a cluster that answers every request at once."""

    async def request(self, name: str, effect: Callable[[], Any]) -> Any:
        return effect()


@pytest.fixture
def kafka() -> ModelKafka:
    return ModelKafka(1)


@pytest.fixture
async def follow(kafka: ModelKafka, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Follow]:
    """Have a broadcast follow the model's topics, read to their ends; reads a little more with every call."""

    async def one_partition(cluster: object, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, 0)]

    cluster = Answering(kafka, "w")
    consumer = ModelConsumer(cluster)
    following = Broadcast(cluster, Topics(), load)  # type: ignore[arg-type]
    monkeypatch.setattr(broadcast, "partitions_of", one_partition)

    async def read() -> Broadcast:
        if following._next:
            await following._read_some(consumer)  # type: ignore[arg-type]
        else:
            task = asyncio.create_task(following._follow(consumer))  # type: ignore[arg-type]
            await following.ready.wait()
            task.cancel()
        return following

    yield read
    following._thread.shutdown()


def publish(kafka: ModelKafka, topic: str, key: str, value: object) -> None:
    kafka.append(TopicPartition(topic, 0), key.encode(), encode(value), None)


@pytest.mark.parametrize("bad", ["models", "item_vectors"])
async def test_a_damaged_batch_costs_the_other_topic_nothing(
    kafka: ModelKafka, follow: Follow, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client had read the other topic, and moved on, before it came to the batch that it cannot read."""
    for name, item in small.items().items():
        publish(kafka, "item_vectors", name, item)
    publish(kafka, "models", "release", POINTER)
    following = await follow()
    assert (len(following.world().index), following.world().estimator) == (40, None)
    kafka.damaged[TopicPartition(bad, 0)] = len(kafka.log(TopicPartition(bad, 0)))
    publish(kafka, "item_vectors", "i50", small.item_vector(50))
    publish(kafka, "models", "estimator", snapshot())

    def known() -> tuple[bool, bool]:
        world = following.world()
        return len(world.index) == 41, world.estimator is not None

    for _ in range(3):
        await follow()
    assert known() == (bad != "item_vectors", bad != "models")
    assert list(following.unreadable) == [TopicPartition(bad, 0)]
    kafka.damaged.clear()
    following.unreadable[TopicPartition(bad, 0)] = 0.0
    await follow()
    assert known() == (True, True)
    assert not following.unreadable
