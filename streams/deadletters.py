"""What a dead letter says about itself: the record as it came, plus headers that tell why and from where.

Only a record too large for the topic of dead letters is cut, and says so (`fit`).

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

TRUNCATED = "driftline-truncated"

MAX_MESSAGE = 1000
MAX_BYTES = 3_670_016
"""Of key, value and headers together: 3.5 MiB, where the topics of dead letters take 4."""


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


def fit(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Return a dead letter (key, value, headers) that its topic takes: unchanged up to `MAX_BYTES` in all.

    A larger one loses the end of its value and, where that is not enough, the record's own headers and the
    end of its key. `driftline-truncated` then holds the bytes of all three before; the original is found by
    the source headers.
    """
    size = _size(key, value, headers)
    if size <= MAX_BYTES:
        return key, value, headers
    if _size(key, None, headers) > MAX_BYTES // 2:
        headers = [(name, text) for name, text in headers if name.startswith(PREFIX)]
        key = None if key is None else key[: MAX_BYTES // 2]
    headers = [*headers, (TRUNCATED, str(size).encode())]
    room = MAX_BYTES - _size(key, None, headers)
    return key, None if value is None else value[:room], headers


def _size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    # A null header is legal in Kafka, though the client library does not say so.
    return len(key or b"") + len(value or b"") + sum(len(name.encode()) + len(text or b"") for name, text in headers)
