"""Letters summed up: how many of each reason, since when, how many were sent again, and the newest of them.

Knows nothing of how that is shown.
"""

from __future__ import annotations

import heapq
from array import array
from collections import defaultdict
from dataclasses import dataclass, field, replace

from ops.deadletters.letters import Filter, Letter, letter_of, noted
from ops.deadletters.mailbox import Mailbox, Progress, quietly


@dataclass(slots=True)
class Tally:
    """The letters of one reason; `first` and `last` are times in milliseconds since the epoch."""

    count: int = 0
    replayed: int = 0
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A letter without its value, whose size in bytes stays."""

    letter: Letter
    size: int
    replayed: bool = False


@dataclass(slots=True)
class Overview:
    """`reasons`: most letters first; `newest`: newest first."""

    reasons: dict[str, Tally] = field(default_factory=dict)
    newest: list[Entry] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(tally.count for tally in self.reasons.values())


class _Collector:
    """Takes letters and notes in, in the order of the log; holds 8 bytes a letter, and the newest ones."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self._offsets: dict[tuple[str, int], array[int]] = defaultdict(lambda: array("q"))
        self._replayed: dict[int, set[int]] = defaultdict(set)
        self._newest: list[tuple[int, int, int, Entry]] = []

    def letter(self, letter: Letter) -> None:
        tally = self._tallies[letter.reason]
        tally.first = letter.time if not tally.count else min(tally.first, letter.time)
        tally.last = max(tally.last, letter.time)
        tally.count += 1
        self._offsets[letter.reason, letter.partition].append(letter.offset)
        order = (letter.time, letter.partition, letter.offset)
        if self._limit is None or len(self._newest) < self._limit:
            heapq.heappush(self._newest, (*order, _entry(letter)))
        elif self._newest and order > self._newest[0][:3]:
            heapq.heapreplace(self._newest, (*order, _entry(letter)))

    def note(self, partition: int, offset: int) -> None:
        self._replayed[partition].add(offset)

    def result(self) -> Overview:
        for (reason, partition), offsets in self._offsets.items():
            replayed = self._replayed[partition]
            self._tallies[reason].replayed += sum(offset in replayed for offset in offsets)
        newest = [
            replace(entry, replayed=offset in self._replayed[partition])
            for _, partition, offset, entry in sorted(self._newest, key=lambda one: one[:3], reverse=True)
        ]
        reasons = sorted(self._tallies.items(), key=lambda one: (-one[1].count, one[0]))
        return Overview(dict(reasons), newest)


def _entry(letter: Letter) -> Entry:
    return Entry(replace(letter, value=None), letter.size)


async def overview(box: Mailbox, wanted: Filter, limit: int | None, progress: Progress = quietly) -> Overview:
    """Read the letters that the filter takes and sum them up; `limit` of the newest are kept, None: all."""
    collector = _Collector(limit)
    starts = await box.starts(wanted)
    async for record in box.records(starts, await box.ends(list(starts)), progress):
        if (letter := letter_of(record)) is None:
            for offset in noted(record):
                collector.note(record.partition, offset)
        elif wanted.takes(letter):
            collector.letter(letter)
    return collector.result()


async def one(box: Mailbox, partition: int, offset: int) -> Entry | None:
    """Return the letter at a place, with its value; None where there is none."""
    wanted = Filter(partition=partition, offset=offset)
    starts = await box.starts(wanted)
    found: Letter | None = None
    replayed = False
    async for record in box.records(starts, await box.ends(list(starts))):
        letter = letter_of(record)
        if letter is None:
            replayed = replayed or offset in noted(record)
        elif wanted.takes(letter):
            found = letter
        elif found is None:
            return None  # what lies there is no letter
    return None if found is None else Entry(found, found.size, replayed)
