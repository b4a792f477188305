"""What a process measures of its own work: distributions and counts, cheap enough for every event.

Written by the thread that does the work, read by another at any time: each number is right by itself, and two that
are read together may be one batch apart. Knows nothing of who reads them, nor of what is measured.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

STAGES = ("wait", "decode", "fold", "evolve", "retrieve", "blend", "adjust", "correct", "encode", "commit")
"""Where an event's time goes, in order: what `driftline_stage_seconds` is split by."""

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Bounds for times: half a millisecond to five minutes."""

STAGE_SECONDS = (0.00005, 0.0001, 0.0002, *SECONDS[:13])
BATCH_EVENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """How often values fell between bounds. `bounds` ascend; a value belongs to the first that is not below it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count `value`, `count` times."""
        self._counts[bisect_left(self.bounds, value)] += count
        self.sum += value * count

    def cumulative(self) -> list[int]:
        """How many values were at most each bound; the last is how many there were."""
        total, found = 0, []
        for count in list(self._counts):
            total += count
            found.append(total)
        return found


class Timings:
    """Seconds spent per stage, by whatever `clock` counts: in all, and as a distribution over events.

    A batch's time counts for each of its events: each of them has waited for all of it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self.stages: dict[str, Histogram] = {}
        self.batches = 0
        self._batch: dict[str, float] = {}

    def begin(self) -> float:
        """A batch is begun; return what time it is. What was counted for one that failed half-way is dropped."""
        self._batch.clear()
        return self.clock()

    def add(self, stage: str, since: float) -> float:
        """Count the time since `since` for a stage of the batch in hand; return what time it is."""
        now = self.clock()
        self._batch[stage] = self._batch.get(stage, 0.0) + now - since
        return now

    def end(self, events: int) -> None:
        """The batch in hand, of so many events, is done."""
        for stage, seconds in self._batch.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
            histogram = self.stages.get(stage)
            if histogram is None:
                histogram = self.stages[stage] = Histogram(STAGE_SECONDS)
            histogram.add(seconds, events)
        self.batches += 1


@dataclass(slots=True)
class Committed:
    """What an engine's partitions have committed since the start, and how long it took.

    Attributes:
        latency: seconds from a record's append to the commit of what answers it.
        wait: of these, until its batch was begun.
        commit: of these, to commit, and to have the store take the new states.
        batch: records of a transaction.
        dead: dead letters by reason.
        retakes: how often a partition had to be taken over again, by why.
        newest: timestamp of the last record committed, seconds since the epoch, by partition.
    """

    clock: Callable[[], float] = time.time
    latency: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    wait: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    commit: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    batch: Histogram = field(default_factory=lambda: Histogram(BATCH_EVENTS))
    dead: Counter[str] = field(default_factory=Counter)
    retakes: Counter[str] = field(default_factory=Counter)
    newest: dict[int, float] = field(default_factory=dict)

    def add(self, partition: int, appended_ms: Sequence[int], begun: float, committing: float) -> None:
        """A batch of records appended at `appended_ms` was begun, went into its transaction, and is committed now.

        `begun`, `committing`: seconds since the epoch. A record from a clock ahead of this one's has waited 0 s.
        """
        now = self.clock()
        for appended in appended_ms:
            since = appended / 1000
            self.latency.add(max(0.0, now - since))
            self.wait.add(max(0.0, begun - since))
        self.commit.add(max(0.0, now - committing), len(appended_ms))
        self.batch.add(len(appended_ms))
        self.newest[partition] = appended_ms[-1] / 1000

    def died(self, reasons: Iterable[str]) -> None:
        """Dead letters were committed."""
        self.dead.update(reasons)
