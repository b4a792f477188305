"""Which events went through the pipeline together: batches found again from what their slates say they cover.

A batch is an interval of offsets, and a slate covers all events of its user in its batch. So a boundary can lie between
any two offsets that no answer has one on either side of; and two answers to one user always have a boundary between
them. The finest division so found gives the same slates as the one that was: rows of a batch do not depend on each
other. Neighbours are put together again, to save time, as long as that changes nothing. Knows nothing of Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from policy.slate import PolicyConfig
from streams.job import Record


@dataclass(frozen=True, slots=True)
class Context:
    """What a batch was answered with: ids of release and estimator, position of the catalogue, policy, digest of the
    rules."""

    release: str
    estimator: str | None
    catalogue: tuple[int, ...]
    policy: PolicyConfig
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One slate, or one tombstone (`at` and `context` are None): the offsets of one user it covers, ascending.

    `at` is the decision's place in its log: decisions themselves are too large to keep them all at hand.
    """

    user: bytes
    covers: Sequence[int]
    at: int | None = None
    context: Context | None = None


@dataclass(slots=True)
class Batch:
    """Events that are to be applied together, in order of offset, and the answers to them."""

    records: list[Record] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def contexts(self) -> list[Context]:
        """The distinct contexts of its slates: more than one contradict each other."""
        return list(dict.fromkeys(answer.context for answer in self.answers if answer.context is not None))

    @property
    def users(self) -> set[bytes]:
        """Whose events it holds, or tells of."""
        return {answer.user for answer in self.answers} | {record.key or b"" for record in self.records}


def batches(events: Iterable[Record], answers: Iterable[Answer], largest: int = 64) -> Iterator[Batch]:
    """Divide `events`, in order of offset, so that each batch gives the answers that were given.

    At most `largest` events are put together where they need not be; 1 gives the finest division.
    """
    pending: Batch | None = None
    for batch in _finest(events, answers):
        if pending is not None and _fit(pending, batch, largest):
            pending.records += batch.records
            pending.answers += batch.answers
            continue
        if pending is not None:
            yield pending
        pending = batch
    if pending is not None:
        yield pending


def _fit(one: Batch, other: Batch, largest: int) -> bool:
    return (
        len(one.records) + len(other.records) <= largest
        and len({*one.contexts, *other.contexts}) <= 1
        and not one.users & other.users
    )


def _finest(events: Iterable[Record], answers: Iterable[Answer]) -> Iterator[Batch]:
    """The finest division. An answer whose events are not there comes with none."""
    spans = iter(_spans(answers))
    last, inside = next(spans, (-1, []))
    records: list[Record] = []
    for record in events:
        while inside and record.offset > last:
            yield Batch(records, inside)
            records = []
            last, inside = next(spans, (-1, []))
        if inside and record.offset >= inside[0].covers[0]:
            records.append(record)
        else:
            yield Batch([record])
    while inside:
        yield Batch(records, inside)
        records = []
        last, inside = next(spans, (-1, []))


def _spans(answers: Iterable[Answer]) -> list[tuple[int, list[Answer]]]:
    """Answers whose offsets interlock, and the last of their offsets; ascending, each begun by the first offset."""
    spans: list[tuple[int, list[Answer]]] = []
    for answer in sorted(answers, key=lambda one: one.covers[0]):
        if spans and answer.covers[0] < spans[-1][0]:
            last, inside = spans.pop()
            spans.append((max(last, answer.covers[-1]), [*inside, answer]))
        else:
            spans.append((answer.covers[-1], [answer]))
    return spans
