"""Records whose header names are not UTF-8: the client library writes none, so its builder is told a lie."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from streams.cluster import Cluster

Row = tuple[bytes | None, bytes | None, Sequence[tuple[bytes, bytes | None]]]
"""Key, value, headers with names as bytes."""


class Odd(str):
    """A name that encodes to bytes of its own."""

    name: bytes

    def __new__(cls, name: bytes) -> Odd:
        made = super().__new__(cls, "name")
        made.name = name
        return made

    def encode(self, *arguments: object) -> bytes:  # type: ignore[override]
        return self.name


def odd(headers: Sequence[tuple[bytes, bytes | None]]) -> list[tuple[str, bytes | None]]:
    return [(Odd(name), value) for name, value in headers]


def batch(rows: Sequence[Row], codec: int = 0, *, transactional: bool = False, producer_id: int = -1) -> bytes:
    """The bytes of a record batch as a broker would return them."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, transactional, producer_id, 0, -1, 2**20)
    for at, (key, value, headers) in enumerate(rows):
        assert builder.append(at, 1_000 + at, key, value, odd(headers)) is not None
    return bytes(builder.build())


@contextlib.asynccontextmanager
async def producer(cluster: Cluster, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that also takes headers made by `odd`."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("producer", "message_accumulator"):
            patch.setattr(f"aiokafka.producer.{module}.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
        made = cluster.producer(**options)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


async def produce(cluster: Cluster, topic: str, rows: Sequence[Row], partition: int = 0) -> None:
    """Write the rows as one batch of the log."""
    async with producer(cluster) as sending:
        made = sending.create_batch()
        for key, value, headers in rows:
            made.append(timestamp=None, key=key, value=value, headers=odd(headers))
        await (await sending.send_batch(made, topic, partition=partition))
