"""Lessons: spans of records become rounds of training. The catalogue's features are followed for it.

Knows the contracts and the trainer's verbs; knows nothing of transactions or checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Set

import msgspec
import numpy as np
import structlog
from aiokafka.errors import KafkaError

from models.batches import InteractionLog
from models.continual import Continual, Step
from models.features import ItemFeatures
from streams.broadcast import item_change
from streams.cluster import MAX_FETCH_BYTES, Cluster
from streams.contracts import ItemVector
from streams.restore import partitions_of
from streams.rounds import Round, RoundReader, slate_log
from streams.spans import WAIT_MS, Batches
from streams.validation import BadMessage
from streams.world import features_of

log = structlog.get_logger(__name__)


class Lessons:
    """Reads rounds and has `learning` learn them, one thread at a time."""

    def __init__(self, learning: Continual, reader: RoundReader, items: Items) -> None:
        self.learning, self.reader, self._items = learning, reader, items
        self.loss: float | None = None
        self.bad = 0

    def learn(self, events: Batches, outcomes: Batches) -> Step:
        """One round: who is to be forgotten, what is new, what happened, and with which weight it is to be repeated."""
        found, trainer = self.reader.read(events, outcomes), self.learning.trainer
        self.bad += found.bad
        if found.erased:
            trainer.forget(np.array(found.erased, np.int64))
        rows = {item: row for row, item in enumerate(trainer.item_ids)}
        told = self._items.take({*found.items}, rows.keys(), trainer.text_encoder)
        changed = [
            item for item in told if item.item not in rows or not _is_same(item, trainer.features, rows[item.item])
        ]
        if changed:
            trainer.put_items([item.item for item in changed], features_of(changed))
            rows = {item: row for row, item in enumerate(trainer.item_ids)}
        if found.drifted:
            self.learning.alarm()
            log.warning(
                "drift: a candidate is made or judged now", signals=found.drifted, round=self.learning.round + 1
            )
        step = self.learning.learn(_interactions(found, rows), found.answers)
        self.loss = step.loss
        known = [(user, rows[item], weight) for user, item, weight in found.shown if item in rows]
        if known:
            users, items, weights = zip(*known, strict=True)
            trainer.weigh(np.array(users, np.int64), np.array(items, np.int64), np.array(weights, np.float32))
        if found.slates:
            trainer.learn_shown(slate_log(found.slates, rows))
        return step


class Items:
    """The item vectors as last told, for the features of items that are met for the first time, or have changed."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster, self._topic = cluster, topic
        self._consumer = cluster.consumer(max_partition_fetch_bytes=MAX_FETCH_BYTES, fetch_max_wait_ms=WAIT_MS)
        self._items: dict[str, ItemVector] = {}
        self._changed: set[str] = set()

    async def open(self) -> None:
        """Read all there is."""
        sources = await partitions_of(self._cluster, self._topic)
        await self._consumer.start()
        self._consumer.assign(sources)
        for source, end in (await self._consumer.end_offsets(sources)).items():
            while await self._consumer.position(source) < end:
                await self.follow(WAIT_MS)

    async def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(KafkaError, OSError):
            await self._consumer.stop()

    async def follow(self, timeout_ms: int = 0) -> None:
        """Take in what has come since."""
        for records in (await self._consumer.getmany(timeout_ms=timeout_ms)).values():
            for record in records:
                with contextlib.suppress(BadMessage, msgspec.MsgspecError, UnicodeDecodeError):  # the workers say it
                    item, vector = item_change(record)
                    if vector is not None:
                        self._items[item] = vector
                        self._changed.add(item)

    def take(self, met: set[str], known: Set[str], encoder: str) -> list[ItemVector]:
        """Vectors of the items that are met and not known, and of the known ones that were told again, by id."""
        wanted = (met - known) | (self._changed & known)
        self._changed -= known
        found = (self._items[item] for item in sorted(wanted) if item in self._items)
        return [item for item in found if item.encoder == encoder]


def _is_same(item: ItemVector, features: ItemFeatures, row: int) -> bool:
    """Whether the trainer knows the item by these features already."""
    return (
        features.text[row].tobytes() == item.vector_f32
        and list(features.categories[row]) == item.categories
        and features.years[row] == (item.year or 0)
    )


def _interactions(found: Round, rows: Mapping[str, int]) -> InteractionLog:
    items = np.array([rows.get(item, -1) for item in found.items], np.int64)
    return InteractionLog(found.users, items, found.times_ms, found.actions, found.weights)
