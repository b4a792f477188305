"""Reading in full what every worker must know: item vectors and models, followed live, into worlds.

`item_vectors` and `models` are read by a consumer without a group, from the start, all partitions: an
agent in the workers' group would see only its share. A release is loaded and its world built here, in a
thread of its own, while the worker goes on with the one it has; the worker picks changes up between
batches. Knows the topics and how to build a world; knows nothing of users or events.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from models.serving import ServingModel
from policy.frequency import StreamingFrequency
from streams.blame import told, way
from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.contracts import EstimatorSnapshot, ItemVector, ModelMessage, ReleasePointer
from streams.damage import damaged
from streams.estimator_fairness import unpack_rates
from streams.estimator_parts import unpack_frequency
from streams.names import Topics
from streams.restore import partitions_of
from streams.validation import BadMessage, decode_item_vector
from streams.world import Known, World

log = structlog.get_logger(__name__)

Load = Callable[[ReleasePointer], ServingModel]
"""Loads a release; raises OSError or ValueError when it is missing or damaged."""

ItemChange = tuple[str, ItemVector | None]

RETRY_S = 5.0
"""A release that could not be taken (files not there yet, items of another encoder) is tried again after this, and so
is a batch that could not be read."""

_model_decoder = msgspec.json.Decoder(ModelMessage)


class Shelf:
    """What was told so far, and what of it the worker has not picked up yet: never more than one of a kind.

    `tell_…` belong to the broadcast's thread, `world` to the worker's. What a worker is handed is checked
    before, since an error there would look like the fault of the events in hand.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._items: dict[str, ItemVector] = {}
        self._estimates: tuple[EstimatorSnapshot, StreamingFrequency] | None = None
        self._wanted: ReleasePointer | None = None
        self._try_at = 0.0
        self.loaded: str | None = None
        self._lock = threading.Lock()  # over what has not been picked up
        self._next_world: World | None = None
        self._next_items: dict[str, ItemVector | None] = {}
        self._next_position: tuple[int, ...] = ()
        self._next_estimates: tuple[EstimatorSnapshot, StreamingFrequency] | None = None
        self._world: World | None = None
        self.items_wait_since: float | None = None
        """Since when (monotonic) an item change has waited to be applied; None: none waits."""

    def world(self) -> World:
        """Return the world as it is now: what was told since the last call is applied first."""
        with self._lock:
            world, items, position = self._next_world, self._next_items, self._next_position
            estimates = self._next_estimates
            self._next_world, self._next_items, self._next_estimates = None, {}, None
            self.items_wait_since = None
        if world is not None:
            self._world = world
        if self._world is None:
            raise RuntimeError("no release was published yet")
        try:
            if items:
                self._world.apply(list(items.items()), position)
            if estimates is not None:
                self._world.estimate(*estimates)
        except Exception as error:
            log.error("a change of the world was dropped", items=len(items), way=way(error))
        return self._world

    @property
    def latest(self) -> World | None:
        """The world that was built last, taken over or not, without what was told since."""
        return self._next_world or self._world

    def tell_items(self, changes: Sequence[ItemChange], position: tuple[int, ...]) -> None:
        """Items came, changed or went."""
        for item, vector in changes:
            if vector is None:
                self._items.pop(item, None)
            else:
                self._items[item] = vector
        with self._lock:
            self._next_items.update(changes)
            if self.items_wait_since is None:
                self.items_wait_since = time.monotonic()
            self._next_position = position

    def tell_estimator(self, snapshot: EstimatorSnapshot) -> None:
        """The learner has published. A snapshot that cannot be unpacked is left out."""
        try:
            estimates = (snapshot, unpack_frequency(snapshot.frequency))
            if snapshot.fairness is not None:
                unpack_rates(snapshot.fairness)  # what is wrong with it should be found here, not by a batch
        except ValueError as error:
            log.error("estimator not taken; the last good one stays", estimator=snapshot.estimator, error=str(error))
            return
        with self._lock:
            self._estimates = self._next_estimates = estimates

    def tell_release(self, pointer: ReleasePointer) -> None:
        """Another release is the current one: `take_release` will load it."""
        self._wanted, self._try_at = pointer, 0.0

    def take_release(self, position: tuple[int, ...]) -> None:
        """Load the wanted release, build its world aside, and have the worker take it at the next batch."""
        pointer = self._wanted
        if pointer is None or pointer.release == self.loaded or time.monotonic() < self._try_at:
            return
        self._try_at = time.monotonic() + RETRY_S
        try:
            world = World(self._load(pointer), pointer.created, Known(self._items, position))
            if not len(world.index):
                raise ValueError(
                    f"none of the {len(self._items)} items on item_vectors can be read by it "
                    f"(its encoder is {world.model.text_encoder}): is `driftline embed` running with that encoder?"
                )
        except (OSError, ValueError) as error:
            kept = self.loaded or "none"
            log.error("release not taken, trying again", release=pointer.release, serving=kept, error=str(error))
            return
        if self._estimates is not None:
            world.estimate(*self._estimates)
        with self._lock:
            self._next_world, self._next_items, self._next_estimates = world, {}, None
        self.loaded = pointer.release
        log.info("release loaded", release=pointer.release, items=len(world.index))


class Broadcast:
    """Follows `item_vectors` and `models`; `ready` is set once both were read to their end and a release is there.

    `unreadable`: partitions with a batch that cannot be read, and when (monotonic) it is tried again; since it was
    met nothing of that partition has been known. `caught_up`: when (monotonic) `item_vectors` was last read to its end.
    """

    def __init__(self, cluster: Cluster, topics: Topics, load: Load) -> None:
        self._cluster = cluster
        self._topics = topics
        self._shelf = Shelf(load)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="broadcast")
        self._position: dict[int, int] = {}
        self._next: dict[TopicPartition, int] = {}  # the offset after the last record read
        self.unreadable: dict[TopicPartition, float] = {}
        self.caught_up: float | None = None
        self.ready = asyncio.Event()

    def world(self) -> World:
        """Return the current world; for the worker's compute thread."""
        return self._shelf.world()

    @property
    def items_wait_since(self) -> float | None:
        """Since when (monotonic) an item change has waited for the next batch; None: none waits."""
        return self._shelf.items_wait_since

    @property
    def loaded(self) -> World | None:
        """The world of the release loaded last, for whoever only looks at it; None: there is none yet."""
        return self._shelf.latest

    async def run(self) -> None:
        """Follow the topics until cancelled."""
        consumer = self._cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES, fetch_max_wait_ms=100)
        try:
            await consumer.start()
            await self._follow(consumer)
        finally:
            await consumer.stop()
            self._thread.shutdown(wait=False)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        vectors = await partitions_of(self._cluster, self._topics.item_vectors)
        models = await partitions_of(self._cluster, self._topics.models)
        self._position = {source.partition: 0 for source in vectors}
        # Everything before the first release is taken: one met on the way would be built from half a catalogue,
        # and perhaps be an old one.
        consumer.assign(vectors + models)
        self._next = dict(await consumer.beginning_offsets(vectors + models))
        await self._read_to_end(consumer, vectors + models)
        while True:
            await self._in_thread(self._take_release)
            if self._shelf.loaded is not None:
                self.ready.set()
            await self._read_some(consumer)

    async def _read_to_end(self, consumer: AIOKafkaConsumer, sources: list[TopicPartition]) -> None:
        ends = await consumer.end_offsets(sources)
        for source in sources:
            while await consumer.position(source) < ends[source]:
                await self._read_some(consumer)

    async def _read_some(self, consumer: AIOKafkaConsumer) -> None:
        for source, again_at in self.unreadable.items():
            if time.monotonic() >= again_at and source in consumer.paused():
                consumer.resume(source)
        try:
            batches = await consumer.getmany(timeout_ms=200, max_records=5_000)
        except KafkaError as error:
            # What the client had read of other partitions went with the error, their positions did not.
            for source, offset in self._next.items():
                consumer.seek(source, offset)
            await self._wait_after(error, consumer)
            return
        for source, records in batches.items():
            self._next[source] = records[-1].offset + 1
            self.unreadable.pop(source, None)
        await self._in_thread(self._tell, batches)
        await self._look_how_far(consumer)

    async def _look_how_far(self, consumer: AIOKafkaConsumer) -> None:
        for source in self._next:
            if source.topic == self._topics.item_vectors:
                end = consumer.highwater(source)
                if end is None or source in self.unreadable or await consumer.position(source) < end:
                    return
        self.caught_up = time.monotonic()

    async def _wait_after(self, error: KafkaError, consumer: AIOKafkaConsumer) -> None:
        """Leave a partition with a damaged batch alone for a while: the others are read on."""
        source = damaged(error, self._next)
        if source is None:
            log.warning("items and models could not be read, retrying", error=repr(error))
            await asyncio.sleep(0.5)
        else:
            log.error("a batch is damaged", topic=source.topic, partition=source.partition, error=str(error))
            consumer.pause(source)
            self.unreadable[source] = time.monotonic() + RETRY_S

    async def _in_thread(self, function: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _take_release(self) -> None:
        self._shelf.take_release(self._positions())

    def _positions(self) -> tuple[int, ...]:
        return tuple(self._position[partition] for partition in sorted(self._position))

    def _tell(self, batches: dict[TopicPartition, list[Any]]) -> None:
        """Tell the shelf what was read; in the broadcast's thread. A record that is not as it should be is left out."""
        changes: list[ItemChange] = []
        messages: list[ModelMessage] = []
        for source, records in batches.items():
            for record in records:
                try:
                    if source.topic == self._topics.models:
                        messages.append(_model_decoder.decode(record.value or b""))
                    else:
                        self._position[source.partition] = record.offset + 1
                        changes.append(item_change(record))
                except (msgspec.MsgspecError, BadMessage, UnicodeDecodeError) as error:
                    log.warning("record left out", topic=source.topic, offset=record.offset, error=told(error))
                    log.debug("why it was left out", error=str(error))
        if changes:
            self._shelf.tell_items(changes, self._positions())
        for message in _latest_of_each(messages):
            if isinstance(message, ReleasePointer):
                self._shelf.tell_release(message)
            elif isinstance(message, EstimatorSnapshot):
                self._shelf.tell_estimator(message)


def item_change(record: Any) -> ItemChange:
    if record.value is not None:
        vector = decode_item_vector(record.key, record.value)
        return vector.item, vector
    if not record.key:
        raise BadMessage("wrong_key", f"key is {record.key!r} and value is null; expected an item's id as key")
    return record.key.decode(), None


def _latest_of_each(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    return list({type(message): message for message in messages}.values())
