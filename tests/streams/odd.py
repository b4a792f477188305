"""Records whose header names are not UTF-8: the client library writes none, so its builder is told a lie."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

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


async def produce(bootstrap: str, topic: str, rows: Sequence[Row], partition: int = 0) -> None:
    """Write the rows as one batch of the log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiokafka.producer.message_accumulator.DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        try:
            made = producer.create_batch()
            for key, value, headers in rows:
                made.append(timestamp=None, key=key, value=value, headers=odd(headers))
            await (await producer.send_batch(made, topic, partition=partition))
        finally:
            await producer.stop()
