"""What waits to be processed of one partition."""

from __future__ import annotations

import pytest

from streams.intake import Intake, size
from tests.streams.model_kafka import Entry


def test_headers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record may be nothing but headers: they fill the memory as keys and values do."""
    monkeypatch.setattr("streams.intake._QUEUE_BYTES", 99)
    intake = Intake(100, (0.0,))
    intake.open(0)
    intake.seek_to = None
    record = Entry(0, None, None, (("name", bytes(95)), ("empty", None)))  # type: ignore[arg-type]
    assert size(record) == 104
    intake.offer([record])
    assert intake.full


async def test_what_is_taken_is_no_longer_there() -> None:
    intake = Intake(2, (0.0,))
    intake.open(0)
    intake.offer([Entry(9, b"a", b"x")])  # fetched before it was opened: dropped
    intake.seek_to = None
    intake.offer([Entry(offset, b"a", b"x") for offset in range(3)])
    assert [record.offset for record in await intake.take(2)] == [0, 1]
    assert [record.offset for record in await intake.take(2)] == [2]
    assert (intake.hungry, intake.full, intake._queued_bytes) == (True, False, 0)
