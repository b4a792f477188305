"""A dead letter as it lies in its topic, a filter over letters, and the notes that say which were sent again.

Whatever a record holds makes a letter: missing or odd error headers leave their fields empty. Knows nothing of how
records are read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.deadletters import (
    ESCAPED,
    MESSAGE,
    PREFIX,
    REASON,
    REPLAYED,
    SOURCE_OFFSET,
    SOURCE_PARTITION,
    SOURCE_TIME,
    SOURCE_TOPIC,
    TRUNCATED,
    original_name,
)
from streams.job import OutputRecord

Header = tuple[str, bytes]
"""Name and value; a null value is legal in Kafka, though the client library does not say so."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the original lay; `time` is its timestamp in milliseconds since the epoch, where it is known."""

    topic: str
    partition: int
    offset: int
    time: int | None

    def __str__(self) -> str:
        return f"{self.topic} {self.partition} {self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter.

    Attributes:
        partition, offset: where it lies in the topic of dead letters.
        time: when it was written, milliseconds since the epoch.
        reason, message: what was wrong; empty where the letter does not say.
        source: where the original lay; None where the letter does not say.
        key, value, headers: the original's; names that were not UTF-8 are escaped.
        truncated: bytes of the original where the letter holds only a part of it.
        escaped: positions in `headers` of the escaped names.
    """

    partition: int
    offset: int
    time: int
    reason: str
    message: str
    source: Source | None
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    truncated: int | None
    escaped: frozenset[int]

    @property
    def origin(self) -> Source:
        """`source` of a letter that is known to have one."""
        if self.source is None:
            raise ValueError(f"the letter at {self.partition} {self.offset} does not say where it came from")
        return self.source

    @property
    def size(self) -> int:
        """Bytes of the original, as far as the letter holds it."""
        texts = sum(len(name.encode()) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + texts

    def original_names(self) -> list[bytes]:
        """The names of the original's headers, as bytes."""
        names = [name for name, _ in self.headers]
        return [original_name(name) if at in self.escaped else name.encode() for at, name in enumerate(names)]


def letter_of(record: Any) -> Letter | None:
    """Return the letter in a record of a topic of dead letters; None where it is a note (see `noted`)."""
    told = {name: value for name, value in record.headers if name.startswith(PREFIX)}
    if REPLAYED in told:
        return None
    return Letter(
        partition=record.partition,
        offset=record.offset,
        time=record.timestamp,
        reason=_text(told.get(REASON)),
        message=_text(told.get(MESSAGE)),
        source=_source(told),
        key=record.key,
        value=record.value,
        headers=tuple((name, value) for name, value in record.headers if not name.startswith(PREFIX)),
        truncated=_number(told.get(TRUNCATED)),
        escaped=frozenset(int(at) for at in _text(told.get(ESCAPED)).split(",") if at.isdecimal()),
    )


def _source(told: Mapping[str, bytes | None]) -> Source | None:
    topic, partition, offset = _text(told.get(SOURCE_TOPIC)), told.get(SOURCE_PARTITION), told.get(SOURCE_OFFSET)
    numbers = _number(partition), _number(offset)
    if not topic or numbers[0] is None or numbers[1] is None:
        return None
    return Source(topic, numbers[0], numbers[1], _number(told.get(SOURCE_TIME)))


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="backslashreplace")


def _number(value: bytes | None) -> int | None:
    text = _text(value)
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= 19 else None


# -- which were sent again ------------------------------------------------------------------------------


def note(offsets: Sequence[int]) -> OutputRecord:
    """Return a note that the letters at `offsets` (ascending) of its partition were sent again."""
    ranges: list[list[int]] = []
    for offset in offsets:
        if ranges and offset == ranges[-1][1] + 1:
            ranges[-1][1] = offset
        else:
            ranges.append([offset, offset])
    return None, msgspec.json.encode({"replayed": ranges}), [(REPLAYED, str(len(offsets)).encode())]


class _Note(msgspec.Struct):
    replayed: list[tuple[int, int]]


def noted(record: Any) -> Iterable[int]:
    """Yield the offsets that a note names, those of its own partition; nothing for a letter.

    Raises ValueError for a note that cannot be read: to go on without it would send letters twice.
    """
    if all(name != REPLAYED for name, _ in record.headers):
        return
    try:
        ranges = msgspec.json.decode(record.value or b"", type=_Note).replayed
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the note at {record.topic} {record.partition} {record.offset} cannot be read: {error}"
        ) from error
    for first, last in ranges:
        yield from range(first, min(last, record.offset) + 1)  # it names what lies before it


# -- filter --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant: all that every given field agrees with.

    `since` (inclusive) and `until` (exclusive) are times of the letters, milliseconds since the epoch; `partition` and
    `offset` places in the topic of dead letters.
    """

    reason: str | None = None
    key: bytes | None = None
    since: int | None = None
    until: int | None = None
    partition: int | None = None
    offset: int | None = None

    @property
    def everything(self) -> bool:
        return self == Filter()

    def takes(self, letter: Letter) -> bool:
        return (
            (self.reason is None or letter.reason == self.reason)
            and (self.key is None or letter.key == self.key)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
            and (self.partition is None or letter.partition == self.partition)
            and (self.offset is None or letter.offset == self.offset)
        )
