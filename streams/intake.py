"""What was fetched of one partition and waits to be processed, and what should be fetched next.

The fetch loop offers records and asks where to go and whether to go on; the partition takes batches out.
The log is the buffer, not this process's memory: little is kept here. Knows nothing of what happens to records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams.job import Record

_QUEUE_BATCHES = 8
_QUEUE_BYTES = 16 * 2**20


class Intake:
    """The queue of one partition.

    Attributes:
        ready: records offered now will be processed; before, they are of an earlier fetch.
        seek_to: where the fetch loop is to go before it fetches on.
        unreadable: why the next records cannot be read, since when no record has come.
    """

    def __init__(self, max_batch_records: int, retry_seconds: Sequence[float]) -> None:
        self.ready = False
        self.seek_to: int | None = None
        self.unreadable: Exception | None = None
        self._max_batch_records = max_batch_records
        self._retry_seconds = retry_seconds
        self._queue: list[Record] = []
        self._queued_bytes = 0
        self._expected = 0  # the offset after the last record offered
        self._failures = 0
        self._held = False  # left alone for a while, since it cannot be read
        self._arrived = asyncio.Event()

    # -- what the fetch loop calls -----------------------------------------------------------------

    def offer(self, records: Sequence[Record]) -> None:
        """Take fetched records in, or drop them where they were fetched for an earlier owner or before a seek."""
        if self.ready and self.seek_to is None:
            self._queue += records
            self._expected = records[-1].offset + 1
            self._queued_bytes += sum(size(record) for record in records)
            self.unreadable, self._failures = None, 0
            self._arrived.set()

    def fetch_again(self) -> None:
        """Go back to what was to come next: what was on its way is lost."""
        if self.ready and self.seek_to is None:
            self.seek_to = self._expected

    def leave_alone(self, error: Exception) -> float:
        """Fetch nothing for a while, so that the other partitions get on; return for how many seconds."""
        wait = self._retry_seconds[min(self._failures, len(self._retry_seconds) - 1)]
        self._failures += 1
        self.unreadable, self._held = error, True
        asyncio.get_running_loop().call_later(wait, self._try_again)
        return wait

    def _try_again(self) -> None:
        self._held = False

    @property
    def hungry(self) -> bool:
        """More should be fetched."""
        few = len(self._queue) < self._max_batch_records and self._queued_bytes < _QUEUE_BYTES
        return self.ready and not self._held and few

    @property
    def full(self) -> bool:
        """No more should be fetched for now: there is enough, or it would be dropped."""
        many = len(self._queue) > _QUEUE_BATCHES * self._max_batch_records or self._queued_bytes > _QUEUE_BYTES
        return not self.ready or self._held or many

    @property
    def oldest_ms(self) -> int | None:
        """Timestamp of the record that has waited longest; None: none waits here."""
        queue = self._queue
        return queue[0].timestamp if queue else None

    # -- what the partition calls ------------------------------------------------------------------

    def open(self, offset: int) -> None:
        """Begin at `offset`."""
        self._empty()
        self.seek_to = self._expected = offset
        self.ready = True

    def shut(self) -> None:
        """Drop everything, and whatever is still on its way."""
        self.ready = False
        self._empty()

    async def take(self, limit: int) -> list[Record]:
        """Wait for records and return those that are there, at most `limit`."""
        while not self._queue:
            await self._arrived.wait()
        records, self._queue = self._queue[:limit], self._queue[limit:]
        self._queued_bytes -= sum(size(record) for record in records)
        if not self._queue:
            self._arrived.clear()
        return records

    def _empty(self) -> None:
        self._queue, self._queued_bytes = [], 0
        self._arrived.clear()


def size(record: Record) -> int:
    """Bytes of a record's key, value and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
