"""Turns item texts into vectors: topic `items` to topic `item_vectors`, a Faust agent, at least once.

Knows nothing of how a vector is computed (it is handed an encoder) nor of who reads the vectors.

Faust as it comes would lose items here: `Stream.take` acknowledges a batch in a `finally`, also when its
processing raised, and an agent that was restarted after an exception never sees the failed items again. So
acknowledgements are off (`noack`), an item is acknowledged only when the broker has its vector, a failed
batch is tried again, and a batch that goes on failing stops the whole process: nothing of it is committed.
Faust reads uncommitted, so an item whose transaction was aborted is embedded too.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import faust
import numpy as np
import stamina
import structlog
from mode.supervisors import CrashingSupervisor
from msgspec import Struct
from numpy.typing import NDArray
from prometheus_client import generate_latest

from streams.cluster import Cluster
from streams.contracts import Item, ItemVector, encode, item_text
from streams.deadletters import dead_letter_headers
from streams.host import faust_connection, pages, web_options
from streams.measures import SECONDS, Histogram
from streams.names import Topics
from streams.validation import BadMessage, decode_item

log = structlog.get_logger(__name__)


class TextEncoder(Protocol):
    """Turns texts into vectors. Two encoders of one `fingerprint` give the same vector for a text."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, texts: list[str], /) -> NDArray[np.float32]:
        """Return float32 [len(texts), dimension]."""
        ...


class EmbedderConfig(Struct, frozen=True):
    """Where the embedder reads and writes, and how much at once."""

    cluster: Cluster
    group: str
    topics: Topics
    folder: Path  # Faust wants one; nothing is kept in it
    batch: int = 64  # texts per call of the encoder
    session_timeout_s: float = 10.0  # a silent embedder loses its partitions after this
    remembered: int = 10_000  # vectors kept to spare encoding a text again
    attempts: int = 5  # per batch, before the process gives up
    web_port: int = 0  # of its pages; 0: none
    web_host: str = "127.0.0.1"


class EmbedderMeasures:
    """What an embedder has done since its start; `ready`: it has its share of the items, and goes on."""

    def __init__(self) -> None:
        self.encoded = self.remembered = 0
        self.seconds = Histogram(SECONDS)
        self.dead: Counter[str] = Counter()
        self.ready = False

    def status(self) -> dict[str, Any]:
        """What the health page says."""
        return {
            "ready": self.ready,
            "encoded": self.encoded,
            "remembered": self.remembered,
            "dead_letters": dict(self.dead),
        }


class VectorCache:
    """Vectors by hash of their text, so that an item sent again with the same text costs no encoding."""

    def __init__(self, encoder: TextEncoder, size: int, measures: EmbedderMeasures | None = None) -> None:
        self._measures = measures or EmbedderMeasures()
        self._encoder = encoder
        self._size = size
        self._vectors: OrderedDict[str, bytes] = OrderedDict()

    def vectors(self, items: Sequence[Item]) -> list[ItemVector]:
        """Return the vector of each item, encoding each unknown text once, the longest unseen forgotten first.

        Raises ValueError when the encoder's answer is not one finite float32 row a text.
        """
        texts = {_text_hash(text): text for text in map(item_text, items)}
        known = {key: self._vectors[key] for key in texts if key in self._vectors}
        unknown = [key for key in texts if key not in known]
        known |= zip(unknown, self._encode([texts[key] for key in unknown]), strict=True)
        self._measures.encoded += len(unknown)
        self._measures.remembered += len(items) - len(unknown)
        self._remember(known)
        return [self._message(item, known) for item in items]

    def _encode(self, texts: list[str]) -> list[bytes]:
        if not texts:
            return []
        rows = self._encoder.encode(texts)
        if rows.ndim != 2 or len(rows) != len(texts) or rows.dtype != np.float32 or not np.isfinite(rows).all():
            raise ValueError(
                f"encoder {self._encoder.fingerprint} gave {rows.dtype} {list(rows.shape)} for {len(texts)} texts; "
                f"expected finite float32 [{len(texts)}, dimension]"
            )
        return [row.astype("<f4").tobytes() for row in rows]

    def _remember(self, vectors: dict[str, bytes]) -> None:
        for key, vector in vectors.items():
            self._vectors[key] = vector
            self._vectors.move_to_end(key)
        while len(self._vectors) > self._size:
            self._vectors.popitem(last=False)

    def _message(self, item: Item, vectors: dict[str, bytes]) -> ItemVector:
        key = _text_hash(item_text(item))
        return ItemVector(
            item=item.item,
            encoder=self._encoder.fingerprint,
            text_hash=key,
            vector_f32=vectors[key],
            title=item.title,
            categories=item.categories,
            year=item.year,
            withdrawn=item.withdrawn,
        )


def _text_hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


class Outgoing(NamedTuple):
    """A record to send."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Embedder:
    """What a batch of item records becomes: vectors, tombstones, dead letters; in the order they came."""

    def __init__(self, encoder: TextEncoder, config: EmbedderConfig, measures: EmbedderMeasures | None = None) -> None:
        self._topics = config.topics
        self.measures = measures or EmbedderMeasures()
        self._cache = VectorCache(encoder, config.remembered, self.measures)

    def outgoing(self, records: Sequence[Any]) -> list[Outgoing]:
        """Return what each record (a Kafka message: key, value, headers, topic, …) is to be answered with."""
        started = time.perf_counter()
        read = [self._read(record) for record in records]
        vectors = iter(self._cache.vectors([answer for answer in read if isinstance(answer, Item)]))
        self.measures.seconds.add(time.perf_counter() - started)
        return [self._vector(next(vectors)) if isinstance(answer, Item) else answer for answer in read]

    def _read(self, record: Any) -> Item | Outgoing:
        try:
            if record.value is not None:
                return decode_item(record.key, record.value)
            if not record.key:
                raise BadMessage("wrong_key", f"key is {record.key!r} and value is null; expected an item's id as key")
        except BadMessage as bad:
            return self._dead_letter(record, bad)
        return Outgoing(self._topics.item_vectors, record.key, None, [])

    def _vector(self, vector: ItemVector) -> Outgoing:
        return Outgoing(self._topics.item_vectors, vector.item.encode(), encode(vector), [])

    def _dead_letter(self, record: Any, bad: BadMessage) -> Outgoing:
        self.measures.dead[bad.reason] += 1
        place = (record.topic, record.partition, record.offset, round(record.timestamp * 1000))
        headers = dead_letter_headers(record.headers, bad.reason, str(bad), *place)
        return Outgoing(self._topics.items_dlq, record.key, record.value, headers)


class CaughtUp:
    """Says in the log that nothing waits to be encoded, once nothing has come for a while.

    `later` is the event loop's `call_later`.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], asyncio.TimerHandle], seconds: float = 1.0) -> None:
        self._later, self._seconds = later, seconds
        self._answered = 0
        self._saying: asyncio.TimerHandle | None = None

    def working(self) -> None:
        """A batch has come."""
        if self._saying is not None:
            self._saying.cancel()

    def answered(self, records: int) -> None:
        """A batch was answered, and so many records of it acknowledged."""
        self._answered += records
        self._saying = self._later(self._seconds, self._say)

    def _say(self) -> None:
        log.info("caught up: the items that came so far have their vectors", records=self._answered)


def build_app(
    config: EmbedderConfig, encoder: TextEncoder, render: Callable[[EmbedderMeasures], bytes] | None = None
) -> faust.App:
    """Return the Faust app whose one agent is the embedder. Its topics must exist: it creates none.

    `render` makes its page of metrics; without it there are those of the process only.
    """
    app = _app(config)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    targets = {name: app.topic(name, **raw) for name in (config.topics.item_vectors, config.topics.items_dlq)}
    embedder = Embedder(encoder, config)
    measures = embedder.measures
    pages(app, measures.status, lambda: generate_latest() if render is None else render(measures))

    @app.agent(app.topic(config.topics.items, **raw), name="embedder", supervisor_strategy=CrashingSupervisor)
    async def embed(stream: Any) -> None:
        unacknowledged = stream.noack()
        measures.ready = True
        caught_up = CaughtUp(asyncio.get_running_loop().call_later)
        async for batch in _batches(unacknowledged, config.batch):
            caught_up.working()
            async for attempt in stamina.retry_context(on=Exception, attempts=config.attempts, timeout=None):
                with attempt:
                    answered = await _answer(batch, embedder, targets, app)
            for event in answered:
                await unacknowledged.ack(event)
            caught_up.answered(len(answered))

    return app


def _app(config: EmbedderConfig) -> faust.App:
    """Return a Faust app without web server, tables or topics of its own."""
    config.folder.mkdir(parents=True, exist_ok=True)
    return faust.App(
        config.group,
        **faust_connection(config.cluster),
        broker_session_timeout=config.session_timeout_s,
        broker_heartbeat_interval=config.session_timeout_s / 4,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=4 * 2**20,  # a dead letter is as large as its item, and more
        stream_buffer_maxsize=8 * config.batch,
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",
        datadir=config.folder,
        autodiscover=False,
        **web_options(config.web_port, config.web_host),
    )


async def _batches(stream: Any, size: int) -> AsyncIterator[list[Any]]:
    """Yield the events that have arrived, at most `size` at once.

    A batch is complete when nothing came for 10 ms, not when the queue is found empty: a rebalance clears
    the queue and then waits for the events already taken out of it, which must not sit in half a batch.
    """
    events = aiter(stream.events())
    coming = _next(events)
    try:
        while (event := await coming) is not None:
            batch = [event]
            coming = _next(events)
            while len(batch) < size and await _arrives(coming):
                batch.append(coming.result())
                coming = _next(events)
            yield batch
    finally:
        coming.cancel()


def _next(events: AsyncIterator[Any]) -> asyncio.Task[Any]:
    """Return a task for the next event; None at the end of the stream."""

    async def read() -> Any:
        return await anext(events, None)

    return asyncio.create_task(read())


async def _arrives(coming: asyncio.Task[Any]) -> bool:
    await asyncio.wait({coming}, timeout=0.01)
    return coming.done() and coming.result() is not None


async def _answer(batch: list[Any], embedder: Embedder, topics: dict[str, Any], app: faust.App) -> list[Any]:
    """Send the answers to a batch; return the events answered when the broker has acknowledged each answer.

    What was fetched before the last rebalance is dropped: whoever owns the partition now reads it again, and
    an answer that came late would overwrite a newer one.
    """
    generation = app.consumer_generation_id
    events = [event for event in batch if event.message.generation_id == generation]
    # In a thread: encoding takes long, and the event loop has a broker to talk to.
    answers = await asyncio.to_thread(embedder.outgoing, [event.message for event in events])
    if app.consumer_generation_id != generation:
        return []
    sent = [await topics[a.topic].send(key=a.key, value=a.value, headers=a.headers) for a in answers]
    await asyncio.gather(*sent)
    return events
