"""Header names that are not UTF-8 are read, with everything around them."""

from __future__ import annotations

import asyncio
import struct

import aiokafka
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatch
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from streams import lenient
from streams.cluster import Cluster
from streams.engine import Engine
from streams.engine_config import EngineConfig
from streams.lenient import LenientRecords
from streams.pipeline import Pipeline
from streams.topics import Topics
from tests import small
from tests.conftest import Wire
from tests.streams.odd import Row, batch, produce

GOOD: Row = (b"k", b"v", [(b"traceparent", b"00"), (b"null", None)])
ODD: Row = (None, b"w", [("ä".encode(), b"1"), (b"caf\xe9\\", b"\xff")])
SOURCE = TopicPartition("events", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def records(data: bytes, aborted: list[tuple[int, int]] | None = None) -> list[aiokafka.ConsumerRecord]:
    """What a consumer of committed records is handed."""
    arguments = (SOURCE, fetcher.MemoryRecords(data), aborted, 0, None, None, True, fetcher.READ_COMMITTED)
    return list(fetcher.PartitionRecords(*arguments))


def moved(data: bytes, base: int) -> bytes:
    """The batch at another offset of the log, which the checksum does not cover."""
    return struct.pack(">q", base) + data[8:]


def test_it_is_installed_in_the_version_of_the_library_that_is_pinned() -> None:
    assert fetcher.MemoryRecords is LenientRecords


def test_another_version_of_the_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", before := object())
    monkeypatch.setattr(aiokafka, "__version__", "0.15.0")
    assert not lenient.install() and fetcher.MemoryRecords is before


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_with_such_a_name_is_read_whole(codec: str) -> None:
    rows = [GOOD, ODD, (b"k", None, []), GOOD]
    found = records(batch(rows, CODECS[codec]))
    assert [(record.key, record.value) for record in found] == [(key, value) for key, value, _ in rows]
    assert [(record.offset, record.timestamp) for record in found] == [(at, 1_000 + at) for at in range(4)]
    for record, (_, _, headers) in zip(found, rows, strict=True):
        assert [(name.encode(errors="surrogateescape"), value) for name, value in record.headers] == headers
    assert found[0].headers == (("traceparent", b"00"), ("null", None))


def test_only_the_batch_that_needs_it_is_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    again = lenient._Unstrict
    monkeypatch.setattr(lenient, "_Unstrict", lambda data: parsed.append(bytes(data)) or again(data))
    data = [moved(batch([row]), base) for base, row in enumerate([GOOD, ODD, GOOD])]
    assert len(records(b"".join(data))) == 3
    assert parsed == [data[1]]


def test_a_consumer_in_the_middle_of_such_a_batch_gets_the_rest() -> None:
    parts = fetcher.PartitionRecords(
        SOURCE, LenientRecords(batch([ODD] * 5)), None, 3, None, None, True, fetcher.READ_COMMITTED
    )
    assert [record.offset for record in parts] == [3, 4]


def test_aborted_transactions_and_markers_are_left_out_as_ever() -> None:
    marker = bytearray(batch([(struct.pack(">hh", 0, 0), b"", [])], transactional=True, producer_id=7))
    attributes = DefaultRecordBase.ATTRIBUTES_OFFSET
    struct.pack_into(">h", marker, attributes, DefaultRecordBase.TRANSACTIONAL_MASK | DefaultRecordBase.CONTROL_MASK)
    struct.pack_into(">I", marker, DefaultRecordBase.CRC_OFFSET, calc_crc32c(bytes(marker[attributes:])))
    data = [
        batch([ODD, GOOD], transactional=True, producer_id=7),  # aborted
        moved(batch([ODD], transactional=True, producer_id=8), 2),
        moved(bytes(marker), 3),
        moved(batch([ODD], transactional=True, producer_id=7), 4),
    ]
    assert [record.offset for record in records(b"".join(data), [(7, 0)])] == [2, 4]


def test_a_batch_that_is_damaged_is_an_error_still() -> None:
    damaged = bytearray(batch([ODD]))
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        records(bytes(damaged))


row = st.tuples(
    st.none() | st.binary(max_size=300),
    st.none() | st.binary(max_size=300),
    st.lists(st.tuples(st.text(max_size=5).map(str.encode), st.none() | st.binary(max_size=300)), max_size=3),
)


@given(st.lists(row, min_size=1, max_size=5), st.sampled_from(sorted(CODECS.values())))
def test_the_second_parser_reads_what_the_first_does(rows: list[Row], codec: int) -> None:
    data = batch(rows, codec)

    def plain(parsed: object) -> list[tuple[object, ...]]:
        return [(r.offset, r.timestamp, r.timestamp_type, r.key, r.value, r.headers) for r in parsed]  # type: ignore[attr-defined]

    assert plain(lenient._Unstrict(memoryview(data))) == plain(DefaultRecordBatch(data))


@pytest.mark.broker
@pytest.mark.parametrize("partitions", [1])
async def test_such_an_event_is_a_dead_letter_and_its_neighbours_are_answered(
    wire: Wire, topics: Topics, cluster: Cluster
) -> None:
    """In one batch of the log, through engine and pipeline; the letter is read by a consumer like any other."""
    event = small.record(0, small.Request("u", small.START))
    rows: list[Row] = [(event.key, event.value, headers) for headers in ([], [(b"caf\xe9", b"1")], [(b"x", b"2")])]
    await produce(cluster, topics.events, rows)
    config = EngineConfig(cluster, f"{topics.prefix}app", topics.events, topics.state, topics.events_dlq)
    world = small.world()
    engine = Engine(config, Pipeline(small.config(topics), lambda: world))
    running = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(30):
            while not await wire.read(topics.recommendations):
                await asyncio.sleep(0.1)
    finally:
        engine.stop()
        await running
    (letter,) = await wire.read(topics.events_dlq)
    headers = dict(letter.headers)
    assert (letter.key, letter.value, headers["driftline-reason"]) == (event.key, event.value, b"envelope")
    assert letter.headers[0] == (r"caf\xe9", b"1") and headers["driftline-escaped"] == b"0"
    assert b"expected UTF-8" in headers["driftline-message"] and headers["driftline-source-offset"] == b"1"
    (slate,) = await wire.read(topics.recommendations)
    assert b'"covers":[0,2]' in slate.value
