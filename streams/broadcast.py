"""Reading in full what every worker must know: item vectors and models, followed live, into worlds.

`item_vectors` and `models` are read by a consumer without a group, from the start, all partitions: an
agent in the workers' group would see only its share. A release is loaded and its world built here, in a
thread of its own, while the worker goes on with the one it has; the worker picks changes up between
batches. Knows the topics and how to build a world; knows nothing of users or events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.serving import ServingModel
from streams.contracts import EstimatorSnapshot, ItemVector, ModelMessage, ReleasePointer
from streams.names import Topics
from streams.restore import partitions_of
from streams.world import Known, World

log = structlog.get_logger(__name__)

Load = Callable[[ReleasePointer], ServingModel]
"""Loads a release; raises OSError or ValueError when it is missing or damaged."""

Change = Callable[[World | None], World | None]
"""What a message does to the current world: change it in place, or replace it."""

_vector_decoder = msgspec.json.Decoder(ItemVector)
_model_decoder = msgspec.json.Decoder(ModelMessage)


class Shelf:
    """What was told so far, and the changes that the worker has not picked up yet.

    `tell_…` and `build` belong to the broadcast's thread, `world` to the worker's.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._items: dict[str, ItemVector] = {}
        self._estimator: EstimatorSnapshot | None = None
        self._changes: deque[Change] = deque()
        self._world: World | None = None
        self.loaded: str | None = None

    def world(self) -> World:
        """Return the world as it is now: what was told since the last call is applied first."""
        while self._changes:
            self._world = self._changes.popleft()(self._world)
        if self._world is None:
            raise RuntimeError("no release was published yet")
        return self._world

    def tell_items(self, changes: Sequence[tuple[str, ItemVector | None]], position: tuple[int, ...]) -> None:
        for item, vector in changes:
            if vector is None:
                self._items.pop(item, None)
            else:
                self._items[item] = vector

        def change(world: World | None) -> World | None:
            if world is not None:
                world.apply(changes, position)
            return world

        self._changes.append(change)

    def tell_estimator(self, snapshot: EstimatorSnapshot) -> None:
        self._estimator = snapshot

        def change(world: World | None) -> World | None:
            if world is not None:
                world.estimate(snapshot)
            return world

        self._changes.append(change)

    def tell_release(self, pointer: ReleasePointer, position: tuple[int, ...]) -> None:
        """Load the release, build its world aside, and have the worker take it at the next batch."""
        if pointer.release == self.loaded:
            return
        try:
            model = self._load(pointer)
        except (OSError, ValueError) as error:
            log.error("release not loaded; the last good one stays", release=pointer.release, error=str(error))
            return
        world = World(model, pointer.created, Known(self._items, position))
        if self._estimator is not None:
            world.estimate(self._estimator)
        self._changes.append(lambda _: world)
        self.loaded = pointer.release
        log.info("release loaded", release=pointer.release, items=len(world.catalogue))


class Broadcast:
    """Follows `item_vectors` and `models`; `ready` is set once both were read to their end and a release is there."""

    def __init__(self, bootstrap_servers: str, topics: Topics, load: Load) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._topics = topics
        self._shelf = Shelf(load)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="broadcast")
        self._position: dict[int, int] = {}
        self.ready = asyncio.Event()

    def world(self) -> World:
        """Return the current world; for the worker's compute thread."""
        return self._shelf.world()

    async def run(self) -> None:
        """Follow the topics until cancelled."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 * 1024 * 1024,
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            await self._follow(consumer)
        finally:
            await consumer.stop()
            self._thread.shutdown(wait=False)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        vectors = await partitions_of(self._bootstrap_servers, self._topics.item_vectors)
        models = await partitions_of(self._bootstrap_servers, self._topics.models)
        self._position = {source.partition: 0 for source in vectors}
        # The items first: a release met on the way would be built from half a catalogue and then patched.
        consumer.assign(vectors)
        await self._read_to_end(consumer, vectors)
        positions = {source: await consumer.position(source) for source in vectors}
        consumer.assign(vectors + models)
        for source, position in positions.items():
            consumer.seek(source, position)
        await self._read_to_end(consumer, models)
        while True:
            if self._shelf.loaded is not None and not self.ready.is_set():
                self.ready.set()
            await self._read_some(consumer)

    async def _read_to_end(self, consumer: AIOKafkaConsumer, sources: list[TopicPartition]) -> None:
        ends = await consumer.end_offsets(sources)
        for source in sources:
            while await consumer.position(source) < ends[source]:
                await self._read_some(consumer)

    async def _read_some(self, consumer: AIOKafkaConsumer) -> None:
        batches = await consumer.getmany(timeout_ms=200, max_records=5_000)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._tell, batches)

    def _tell(self, batches: dict[TopicPartition, list[Any]]) -> None:
        """Tell the shelf what was read; in the broadcast's thread."""
        changes: list[tuple[str, ItemVector | None]] = []
        messages: list[ReleasePointer | EstimatorSnapshot] = []
        for source, records in batches.items():
            for record in records:
                try:
                    if source.topic == self._topics.models:
                        messages.append(_model_decoder.decode(record.value))
                    else:
                        vector = None if record.value is None else _vector_decoder.decode(record.value)
                        changes.append((record.key.decode(), vector))
                        self._position[source.partition] = record.offset + 1
                except (msgspec.MsgspecError, TypeError, AttributeError, UnicodeDecodeError) as error:
                    log.warning("unreadable record skipped", topic=source.topic, offset=record.offset, error=str(error))
        position = tuple(self._position[partition] for partition in sorted(self._position))
        if changes:
            self._shelf.tell_items(changes, position)
        for message in _latest_of_each(messages):
            if isinstance(message, ReleasePointer):
                self._shelf.tell_release(message, position)
            else:
                self._shelf.tell_estimator(message)


def _latest_of_each(
    messages: Sequence[ReleasePointer | EstimatorSnapshot],
) -> list[ReleasePointer | EstimatorSnapshot]:
    return list({type(message): message for message in messages}.values())
