"""The job that every contender but driftline does: count each user's events, and write as many bytes as driftline does.

What is written, and its size, is a `Plan`, measured on driftline in the same run. Knows nothing of Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from streams.job import Effects, OutputRecord, Record
from streams.names import Topics

COUNT_BYTES = 8


class Written(Struct, frozen=True):
    """Records for each event, and bytes for each record."""

    per_event: float
    size: int


class Plan(Struct, frozen=True):
    """What is written. Only the recommendations say which events they answer."""

    recommendations: Written
    decisions: Written
    outcomes: Written
    state: Written

    @property
    def bytes_per_event(self) -> float:
        every = (self.recommendations, self.decisions, self.outcomes, self.state)
        return sum(written.per_event * written.size for written in every)


def answer(offsets: Sequence[int], size: int) -> bytes:
    """A record that names the offsets of the events it answers, as a recommendation does, of `size` bytes or more."""
    return msgspec.json.encode({"covers": offsets}).ljust(size)


class Counting:
    """A handler for the engine, and for the bare loop."""

    def __init__(self, plan: Plan, topics: Topics) -> None:
        self._plan = plan
        self._topics = topics

    def assigned(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Nothing is derived from the states."""

    def revoked(self, partition: int) -> None:
        """Nothing was."""

    def apply(self, partition: int, records: Sequence[Record], states: Mapping[bytes, bytes]) -> Effects:
        """Count, and write what the plan says."""
        return Effects(outputs=self._outputs(records), states=self._counted(records, states))

    def _counted(self, records: Sequence[Record], states: Mapping[bytes, bytes]) -> dict[bytes, bytes | None]:
        counts: dict[bytes, int] = {}
        for record in records:
            key = record.key or b""
            before = counts[key] if key in counts else int.from_bytes(states.get(key, b"")[:COUNT_BYTES])
            counts[key] = before + 1
        return {key: count.to_bytes(COUNT_BYTES).ljust(self._plan.state.size) for key, count in counts.items()}

    def _outputs(self, records: Sequence[Record]) -> dict[str, list[OutputRecord]]:
        plan, topics = self._plan, self._topics
        shares = _shares([record.offset for record in records], plan.recommendations.per_event)
        slates: list[OutputRecord] = [
            (records[0].key, answer(share, plan.recommendations.size), ()) for share in shares
        ]
        return {
            topics.recommendations: slates,
            topics.decisions: _padding(records, plan.decisions),
            topics.outcomes: _padding(records, plan.outcomes),
        }


def _shares(offsets: list[int], per_event: float) -> list[list[int]]:
    """The offsets dealt out to as many slates as driftline would write for them."""
    slates = max(1, min(len(offsets), round(per_event * len(offsets))))
    return [offsets[at::slates] for at in range(slates)]


def _padding(records: Sequence[Record], written: Written) -> list[OutputRecord]:
    return [(records[0].key, bytes(written.size), ())] * round(written.per_event * len(records))
