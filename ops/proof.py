"""What of a user may still be there after his erasure, until when, and what must not be.

Judges what `ops/traces.py` found, by the topics' real retention. What is live must be gone, or belong to somebody who
came back since; what merely lies in a log may lie there for as long as that log keeps anything. Reads nothing itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from ops.retention import Retention
from ops.traces import CURRENT, Place, Survey, Trace, Traces
from streams.contracts import Cause
from streams.state import UnknownStateVersion, decode_user

_NAMES = {
    "events": "what he did",
    "events.dlq": "dead letters",
    "decisions": "decision records",
    "outcomes": "outcomes",
}
_ONE = {"recommendations": "slate", "state": "state"}


@dataclass(frozen=True, slots=True)
class Holding:
    """Records of one topic that hold the id for the same reason.

    Attributes:
        where: the topic's plain name, or a folder.
        what: in words.
        records: how many.
        example: partition and offset of the newest; None where there is no such thing.
        until: by when the last of them is gone, ms; None: nobody can tell.
        on_write: `until` is when the next write to the partition removes it, and not the clock alone.
        problem: why it must not be there; None: it may.
        removed_by: what removes it, where that has no date; empty where nothing will, or `until` tells.
    """

    where: str
    what: str
    records: int
    example: Place | None
    until: int | None
    on_write: bool = False
    problem: str | None = None
    removed_by: str = ""


@dataclass(slots=True)
class Proof:
    """What is left of one user.

    Attributes:
        erased: his newest erasures that are in the log and were not refused, one a partition.
        returned: how many events he has had since.
        lives: somebody of this id has a state, rightly or not.
        deleted: when the states' changelog last deleted his state, ms; None: it does not say.
        holdings: what holds his id.
    """

    user: str
    erased: list[Place] = field(default_factory=list)
    returned: int = 0
    lives: bool = False
    deleted: int | None = None
    holdings: list[Holding] = field(default_factory=list)

    @property
    def problems(self) -> list[Holding]:
        return [holding for holding in self.holdings if holding.problem is not None]

    @property
    def clean(self) -> bool:
        """Nothing holds his id that should not."""
        return not self.problems

    @property
    def until(self) -> int | None:
        """By when the last of what may be there is gone, ms; None where nothing is, or nobody can tell."""
        return max((holding.until for holding in self.holdings if holding.until is not None), default=None)


class _Cause(msgspec.Struct):
    cause: Cause


class Judge:
    """Judges one user's traces. `now` is in ms."""

    def __init__(self, user: str, survey: Survey, retentions: Mapping[str, Retention], now: int) -> None:
        self._traces = survey.users[user]
        self._newest, self._retentions, self._now = survey.newest, retentions, now
        self._erased, self._returned = _erasures(self._traces)
        self.proof = Proof(user, sorted(self._erased.items()), sum(map(len, self._returned.values())))

    def judge(self) -> Proof:
        """Say of everything found what it is, whether it may be there, and until when."""
        judged = [self._of(trace) for trace in self._traces.found if trace.topic not in CURRENT]
        for topic in CURRENT:
            for partition in sorted({trace.partition for trace in self._traces.found if trace.topic == topic}):
                judged += self._current(topic, partition)
        self.proof.holdings += _together(judged)
        return self.proof

    # -- what merely lies in a log -----------------------------------------------------------------

    def _of(self, trace: Trace) -> Holding:
        what = _NAMES.get(trace.topic, "records")
        if trace.kind == "erase":
            what = "the erasure itself"
        if trace.way == "maybe":
            what += " that may mention him"
        elif trace.topic not in _NAMES:
            what += " that name him"
        retention = self._retentions[trace.topic]
        return self._dated(trace, what, retention.aged_out(trace.newest), on_write=False)

    def _dated(self, trace: Trace, what: str, until: int | None, *, on_write: bool) -> Holding:
        problem = None
        if until is None:
            problem = self._for_ever(trace.topic)
        elif until < (self._newest[trace.topic, trace.partition] if on_write else self._now):
            problem = "should be deleted by now: look at the broker's log, or for records dated into the future"
        return Holding(trace.topic, what, 1, trace.place, until, on_write, problem)

    def _for_ever(self, topic: str) -> str:
        if self._retentions[topic].compacts:
            return "kept for ever: give the topic a max.compaction.lag.ms"
        return "kept for ever: give the topic a retention.ms"

    # -- what holds now ----------------------------------------------------------------------------

    def _current(self, topic: str, partition: int) -> list[Holding]:
        """Judge the records of a user in one partition of a topic where the newest counts."""
        mine = [trace for trace in self._traces.found if (trace.topic, trace.partition) == (topic, partition)]
        keyed = [trace for trace in mine if trace.way == "key"]
        committed = [trace for trace in keyed if (topic, partition, trace.offset) in self._traces.committed]
        offsets = [trace.offset for trace in committed]
        judged = [self._of(trace) for trace in mine if trace.way != "key"]
        for trace in keyed:
            later = bisect_right(offsets, trace.offset)
            if later == 0 or offsets[later - 1] != trace.offset:
                judged.append(self._compacted(trace, f"{_ONE[topic]}s of aborted transactions", trace))
            elif later < len(committed):
                judged.append(self._compacted(trace, f"replaced {_ONE[topic]}s", committed[later]))
            elif trace.empty:
                self.proof.deleted = trace.timestamp if topic == "state" else self.proof.deleted
                judged.append(self._compacted(trace, "tombstone: nothing but his id", trace))
            else:
                judged.append(self._live(trace, self._traces.current[topic, partition] or b""))
        return judged

    def _compacted(self, trace: Trace, what: str, by: Trace) -> Holding:
        retention = self._retentions[trace.topic]
        until = (retention.tombstone_compacted if trace.empty else retention.compacted)(by.newest)
        if until is None:  # nothing bounds when it is compacted, but its age may
            return self._dated(trace, what, retention.aged_out(by.newest), on_write=False)
        return self._dated(trace, what, until, on_write=True)

    def _live(self, trace: Trace, value: bytes) -> Holding:
        what, problem = f"current {_ONE[trace.topic]}", None
        self.proof.lives = self.proof.lives or trace.topic == "state"
        try:
            offset, slates = self._made_by(trace.topic, value)
        except (msgspec.MsgspecError, UnknownStateVersion, UnicodeDecodeError) as error:
            problem = f"live, and cannot be read: {error}"
        else:
            what += f" with {slates} open slate(s)" if slates else ""
            problem = self._not_his(trace.partition, offset)
        return Holding(trace.topic, what, 1, trace.place, None, problem=problem)

    def _made_by(self, topic: str, value: bytes) -> tuple[int, int]:
        """The oldest event that a live record may tell of, and how many slates are open."""
        if topic == "recommendations":
            return msgspec.json.decode(value, type=_Cause).cause.offset, 0
        state = decode_user(value)
        opened = [int(slate.slate.rpartition("-")[2]) for slate in state.slates]
        return min([state.offset, *opened]), len(opened)

    def _not_his(self, partition: int, offset: int) -> str | None:
        """Why something live of an event at `offset` must not be there; None where it is of one who came back."""
        if offset in self._returned.get(partition, ()):
            return None
        erased = self._erased.get(partition)
        if erased is None:
            elsewhere = next(iter(self._erased), None)
            if elsewhere is None:
                return "live: no erasure of him is in the log; run `driftline erase` for him"
            return (
                f"live in partition {partition}, but the erasure was asked in {elsewhere}: his events come from a "
                "client that chooses partitions differently; run `driftline erase` with --all-partitions"
            )
        if (partition, erased) not in self._traces.answered and offset < erased:
            return f"live: the erasure {partition}-{erased} is not answered yet; does a worker run?"
        return f"live, and of no event after the erasure {partition}-{erased}"


def _erasures(traces: Traces) -> tuple[dict[int, int], dict[int, set[int]]]:
    """By partition: the newest erasure that was not refused, and his events after it."""
    erased: dict[int, int] = {}
    returned: dict[int, set[int]] = {}
    for trace in traces.found:
        if trace.topic != "events" or trace.way != "key" or trace.place in traces.refused:
            continue
        if trace.kind == "erase":
            erased[trace.partition], returned[trace.partition] = trace.offset, set()
        elif trace.partition in erased:
            returned[trace.partition].add(trace.offset)
    return erased, returned


def _together(judged: Sequence[Holding]) -> list[Holding]:
    """Holdings that differ in their place only, as one: with the newest place and the latest date."""
    groups: dict[tuple[object, ...], Holding] = {}
    for one in judged:
        group = (one.where, one.what, one.on_write, one.problem, one.until is None)
        known = groups.get(group)
        if known is not None:
            until = None if one.until is None else max(one.until, known.until or 0)
            one = replace(one, records=known.records + one.records, until=until)
        groups[group] = one
    return list(groups.values())
