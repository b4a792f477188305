"""What a dead letter says about itself: the record as it came, plus headers that tell why and from where.

Only a record too large for the topic of dead letters is cut, and says so (`fit`); and a header's name that is not
UTF-8, which the client library cannot write, is escaped, and the letter says so too (`original_name` undoes it).

Knows nothing of Kafka clients, nor of who reads dead letters; it only makes headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIX = "driftline-"
REASON = "driftline-reason"
MESSAGE = "driftline-message"
SOURCE_TOPIC = "driftline-source-topic"
SOURCE_PARTITION = "driftline-source-partition"
SOURCE_OFFSET = "driftline-source-offset"
SOURCE_TIME = "driftline-source-time"
TRUNCATED = "driftline-truncated"
ESCAPED = "driftline-escaped"
REPLAYED = "driftline-replayed"
"""On a record among the letters that is none: it notes which of them were sent again (ops/deadletters)."""

REASONS = {
    "malformed_json": "not JSON, or not UTF-8",
    "malformed_avro": "Avro that is not what its schema says",
    "unknown_schema": "Avro with the id of a schema that the registry does not have, or that is not for events",
    "schema": "a field is missing, of a wrong type or out of bounds",
    "unknown_kind": "an event of no known `kind`",
    "unknown_action": "an action that is not in `DRIFTLINE_EVENTS_ACTIONS`",
    "wrong_key": "the record's key is not the user's or item's id",
    "null_value": "an event without a value; to forget a user send `erase`",
    "time_past": "before 1990: a unit mixed up, most likely",
    "time_future": "ahead of its arrival",
    "duplicate_id": "an event whose `id` the user's state remembers",
    "envelope": "CloudEvents headers of another version, or not text; any header whose name is not UTF-8",
    "already_folded": "an event that lies before the last one of its user's state",
    "handler_error": "an event that made its batch fail again and again, alone too",
    "too_large": "an event whose answer, or the state it makes, is larger than its topic takes",
}
"""What was wrong, by the word in `driftline-reason`."""

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
    kept, escaped = writable_headers((name, value) for name, value in headers if not name.startswith(PREFIX))
    if escaped:
        error[ESCAPED] = ",".join(map(str, escaped))
    return kept + [(name, text.encode(errors="replace")) for name, text in error.items()]


def writable_headers(headers: Iterable[tuple[str, bytes]]) -> tuple[list[tuple[str, bytes]], list[int]]:
    """Return headers with names that a client can write, and the positions of those whose names were escaped.

    A name that is not UTF-8 (its odd bytes are surrogates: streams/lenient.py) has each odd byte as `\\xe9` and each
    backslash doubled.
    """
    writable, escaped = [], []
    for at, (name, value) in enumerate(headers):
        if is_utf8(name):
            writable.append((name, value))
        else:
            text = name.replace("\\", r"\\").encode(errors="surrogateescape").decode(errors="backslashreplace")
            writable.append((text, value))
            escaped.append(at)
    return writable, escaped


def original_name(escaped: str) -> bytes:
    """Return the bytes of a header's name from its escaped form."""
    return re.sub(
        rb"\\(\\|x[0-9a-f]{2})",
        lambda found: b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)]),
        escaped.encode(),
    )


def is_utf8(name: str) -> bool:
    """False for a header's name with bytes that are not UTF-8: they were read as surrogates."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
