"""Reading records whose header names are not UTF-8, which the client library cannot: one odd producer must stop nobody.

Kafka takes any bytes as a header's name. aiokafka decodes names strictly and gives up on the whole batch, of which it
then delivers nothing for ever. Importing this module puts a reader between the library's fetcher and its parser: a
batch on which the parser fails for that reason, and no other, is parsed again with such names decoded by
`surrogateescape`, from which `name.encode(errors="surrogateescape")` gives the bytes back. All other batches go through
the library's own parser. Knows the record format (version 2) and nothing of what records mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import aiokafka
import structlog
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy, _DefaultRecordPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

log = structlog.get_logger(__name__)

TESTED_WITH = "0.14."
"""The hook reaches into the library; another version is left as it is."""

_HEAD = struct.Struct(">qiib")  # base offset, length of what follows it, leader epoch, magic
_BEFORE_LENGTH_COUNTS = struct.calcsize(">qi")
_WITH_HEADERS = 2  # the record format that knows headers


class LenientRecords:
    """What the fetcher takes the records of a response from; stands in for the library's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        size: int = self._records.size_in_bytes()
        return size

    def has_next(self) -> bool:
        more: bool = self._records.has_next()
        return more

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        _, length, _, magic = _HEAD.unpack_from(self._data, start)
        self._at = start + _BEFORE_LENGTH_COUNTS + length
        return batch if magic < _WITH_HEADERS else LenientBatch(batch, self._data[start : self._at])


class LenientBatch:
    """A batch as the library parsed it, and its bytes for a second try at its records."""

    __slots__ = ("_batch", "_data")

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # of a control batch, whose records have no headers

    def __iter__(self) -> Iterator[Any]:
        try:
            records = list(self._batch)
        except (UnicodeDecodeError, CorruptRecordException) as error:
            # The library's parser without its C extension says that a record is corrupt.
            if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                raise
            records = list(_Unstrict(self._data))
        return iter(records)


class _Unstrict(_DefaultRecordBatchPy):
    """The library's parser in Python, with a reader of records that takes any name."""

    _pos: int

    def _read_msg(self) -> Any:
        length, start = decode_varint(self._buffer, self._pos)
        delta, at = decode_varint(self._buffer, start + 1)  # after the attributes, one byte that is not used
        offset, at = decode_varint(self._buffer, at)
        key, at = self._read_bytes(at)
        value, at = self._read_bytes(at)
        count, at = decode_varint(self._buffer, at)
        headers = []
        for _ in range(count):
            name, at = self._read_bytes(at)
            text, at = self._read_bytes(at)
            headers.append(((name or b"").decode(errors="surrogateescape"), text))
        if at != start + length:
            raise CorruptRecordException(f"a record of {length} bytes has {at - start}")
        self._pos = at
        appended = self.timestamp_type == self.LOG_APPEND_TIME
        timestamp = self.max_timestamp if appended else self.first_timestamp + delta
        return _DefaultRecordPy(self.base_offset + offset, timestamp, self.timestamp_type, key, value, headers)

    def _read_bytes(self, at: int) -> tuple[bytes | None, int]:
        size, at = decode_varint(self._buffer, at)
        return (None, at) if size < 0 else (bytes(self._buffer[at : at + size]), at + size)


def install() -> bool:
    """Have every consumer of this process read leniently; False, and a warning, where the library is another."""
    if not aiokafka.__version__.startswith(TESTED_WITH) or not hasattr(fetcher, "MemoryRecords"):
        log.warning("records with header names that are not UTF-8 will stop readers", aiokafka=aiokafka.__version__)
        return False
    fetcher.MemoryRecords = LenientRecords
    return True


install()
