"""Whose batch it was that could not be read: the client library tells only in the words of its error.

What it had taken from other partitions before it came to a damaged batch is gone with the error, while their
positions have moved on: whoever reads several partitions must go back to what was to come next in each.
Knows nothing of who reads or why.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError


def damaged(error: KafkaError, sources: Iterable[TopicPartition]) -> TopicPartition | None:
    """The one of `sources` that has the damaged batch; None where the error is of another kind."""
    if not isinstance(error, CorruptRecordException):
        return None
    return next((source for source in sources if str(source) in str(error)), None)
