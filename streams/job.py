"""What the engine and a handler agree on: records in, effects out. Knows nothing of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streams.tracing import Traced


class NotNow(OSError):
    """Something that a handler needs is away, which is no fault of the records: they are handed to it again later."""


OutputRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value, headers."""


class Record(Protocol):
    """One record of the input topic, as the client library delivers it; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(slots=True)
class DeadLetter:
    """A record that cannot be used, the reason in a word fit for a metric, and in a sentence."""

    record: Record
    reason: str
    message: str


@dataclass(slots=True)
class Effects:
    """What a batch does: records to write by topic, new states by key (None deletes), dead letters; and which of its
    slates are part of a trace."""

    outputs: dict[str, list[OutputRecord]] = field(default_factory=dict)
    states: dict[bytes, bytes | None] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    traced: list[Traced] = field(default_factory=list)


class Handler(Protocol):
    """What the job means. All three are called in one thread, never two at a time.

    `apply` must not change `states`. After a failed commit its records are handed to it again, perhaps in other
    batches and to a world that has moved on: of all such calls only one's effects are ever committed, so that they
    need not be the same. Whatever it derives and keeps must be checked against `states`.
    """

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """A partition was taken over and its states restored (also after a failed commit)."""

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        """Return the effects of `records`, in offset order."""

    def revoked(self, partition: int) -> None:
        """The partition was given up: drop what was derived from it."""
