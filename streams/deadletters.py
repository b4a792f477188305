"""What a dead letter says about itself: the record as it came, plus headers that tell why and from where.

Knows nothing of Kafka clients, nor of who reads dead letters; it only makes headers.
"""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "driftline-"
REASON = "driftline-reason"
MESSAGE = "driftline-message"
SOURCE_TOPIC = "driftline-source-topic"
SOURCE_PARTITION = "driftline-source-partition"
SOURCE_OFFSET = "driftline-source-offset"
SOURCE_TIME = "driftline-source-time"

MAX_MESSAGE = 1000


def dead_letter_headers(
    headers: Iterable[tuple[str, bytes]],
    reason: str,
    message: str,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
) -> list[tuple[str, bytes]]:
    """Return a dead letter's headers: the record's own, then what went wrong and where the record lay.

    `reason` is a word fit for a metric label and `message` a sentence, cut after 1,000 characters;
    `timestamp_ms` is the record's own, in milliseconds since the epoch. All values are UTF-8 text. A
    record that was a dead letter before (replayed, and failed again) keeps only its newest error headers.
    """
    error = {
        REASON: reason,
        MESSAGE: message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…",
        SOURCE_TOPIC: topic,
        SOURCE_PARTITION: str(partition),
        SOURCE_OFFSET: str(offset),
        SOURCE_TIME: str(timestamp_ms),
    }
    kept = [(name, value) for name, value in headers if not name.startswith(PREFIX)]
    return kept + [(name, text.encode(errors="replace")) for name, text in error.items()]
