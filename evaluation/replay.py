"""Slates computed again from the log: the real pipeline, over the events of a partition, beside what was served.

A batch runs under the release, estimator, catalogue position and policy that its decisions name, and is divided as
they say (replay_batches.py). Two things are checked of each slate. From the decision record alone the policy's choice
comes out the same, byte for byte. From the events the whole decision comes out the same: numbers of the model up to
`TOLERANCE`, and with them the slate, unless two perturbed scores lie closer than that. Or nothing is checked, and
another policy or release says what it would have shown. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from evaluation.replay_adjusting import LoggedOr
from evaluation.replay_batches import Answer, Batch, Context, batches
from evaluation.replay_dead import ENGINE_REASONS, explained, refused_today
from evaluation.replay_recorded import FromRecord, recorded_policy
from evaluation.replay_verdict import TOLERANCE as TOLERANCE
from evaluation.replay_verdict import Bench, Replayed, unmade
from evaluation.replay_world import ReleaseMissing, Worlds
from policy.slate import PolicyConfig
from streams.adjuster import Adjuster
from streams.contracts import Decision
from streams.job import DeadLetter, Record
from streams.pipeline import Pipeline, PipelineConfig, estimated
from streams.rules_file import RulesFile
from streams.world import World

_decode = msgspec.json.Decoder(Decision).decode


@dataclass(frozen=True, slots=True)
class PartitionLog:
    """What the topics hold of one partition, each in order of offset.

    Attributes:
        partition: its number.
        events: records of `events`.
        decisions: of `decisions`.
        tombstones: of `recommendations`: user's key, offsets covered.
        dead: events in the dead-letter topic: offset → reason. They stay out of the states whatever today's rules say.
        begins: first offset that the log still has; above 0, users may have a history that it does not tell.
        letters_from: offset of the first event whose letter would still be there. One before it that nobody answered
            is taken to have been dead: its letter was deleted.
    """

    partition: int
    events: Sequence[Record]
    decisions: Sequence[Decision]
    tombstones: Sequence[tuple[bytes, Sequence[int]]] = ()
    dead: Mapping[int, str] = field(default_factory=dict)
    begins: int = 0
    letters_from: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """What a replay computes with instead of what the log names; nothing: it checks the log."""

    release: str | None = None
    policy: Mapping[str, Any] = field(default_factory=dict)
    filter_seen: bool | None = None

    def __bool__(self) -> bool:
        return self.release is not None or bool(self.policy) or self.filter_seen is not None


class Replay:
    """Replays partitions one after the other.

    `config` gives what decisions do not name: limits of states, rules of events, and what of the policy is not logged.

    Attributes:
        states: by partition, the states of its users (and its own) after what was replayed, as a worker that was
            never interrupted would have them.
        unrecorded: (partition, offset) of events that were answered here and have no decision in the log.
        dead_differences: (partition, offset, reason logged, reason found) where dead letters differ.
        dead_unchecked: the same, where other settings than today's or an older contract account for it; with two None
            where an event's letter is gone.
        conflicts: (partition, offset) of batches whose slates name different contexts, which one log cannot hold.
    """

    def __init__(self, config: PipelineConfig, worlds: Worlds, change: Change = Change(), largest: int = 64) -> None:
        self.config = config
        self.worlds = worlds
        self.change = change
        self._largest = largest
        self.states: dict[int, dict[bytes, bytes]] = {}
        self.unrecorded: list[tuple[int, int]] = []
        self.dead_differences: list[tuple[int, int, str | None, str | None]] = []
        self.dead_unchecked: list[tuple[int, int, str | None, str | None]] = []
        self.conflicts: list[tuple[int, int]] = []

    def run(self, log: PartitionLog, since: int = 0, until: int | None = None) -> Iterator[Replayed]:
        """Yield what became of the decisions of one partition, from the beginning of its log.

        `since` and `until`: only of events appended from the one to before the other (ms). What lies before is
        folded with its slates as they were logged and not compared; what comes after the last of them is left alone.
        """
        run = _Run(self, log, _Span(since, until))
        answers = list(run.answers())
        for batch in batches(run.usable(answers), answers, self._largest):
            yield from run.step(batch)


@dataclass(frozen=True, slots=True)
class _Span:
    """A time of appending, in ms: from the one to before the other; None: open."""

    since: int
    until: int | None

    def holds(self, record: Record) -> bool:
        return self.since <= record.timestamp and (self.until is None or record.timestamp < self.until)


class _Run:
    """One partition on its way through the pipeline."""

    def __init__(self, replay: Replay, log: PartitionLog, span: _Span) -> None:
        self._replay = replay
        self._log = log
        self._span = span
        self._states = replay.states.setdefault(log.partition, {})
        self._policy: PolicyConfig | None = None
        self._pipeline: Pipeline | None = None
        self._recorded: FromRecord | None = None
        self._context: Context | None = None
        self._decisions: dict[int, Decision] = {}  # of the batch in hand, by offset of their cause
        self._made: dict[int, Decision] = {}  # the same, as computed
        self.world: World

    def usable(self, answers: Sequence[Answer]) -> Iterator[Record]:
        """The events that a worker folded or refused by itself, up to the last that is asked for and was answered."""
        answered = max([self._end(self._log.decisions), *(covers[-1] for _, covers in self._log.tombstones)])
        wanted = max((record.offset for record in self._log.events if self._span.holds(record)), default=-1)
        covered = {offset for answer in answers for offset in answer.covers} if self._log.letters_from else set()
        first, told = min(covered, default=0), covered | self._log.dead.keys()
        for record in self._log.events:
            if record.offset > min(max(answered, *self._log.dead, -1), wanted):
                return
            if self._log.dead.get(record.offset) in ENGINE_REASONS:
                continue
            if first < record.offset < self._log.letters_from and record.offset not in told:
                if self._span.holds(record):
                    self._replay.dead_unchecked.append((self._log.partition, record.offset, None, None))
                continue
            yield record

    @staticmethod
    def _end(decisions: Sequence[Decision]) -> int:
        return decisions[-1].cause.offset if decisions else -1

    def answers(self) -> Iterator[Answer]:
        contexts: dict[Context, Context] = {}
        for at, decision in enumerate(self._log.decisions):
            context = self._context_of(decision)
            yield Answer(decision.user.encode(), decision.covers, at, contexts.setdefault(context, context))
        for user, covers in self._log.tombstones:
            yield Answer(user, covers)

    def step(self, batch: Batch) -> Iterator[Replayed]:
        """Apply one batch, take its states over, and say what became of its decisions."""
        decisions = [self._log.decisions[answer.at] for answer in batch.answers if answer.at is not None]
        decisions.sort(key=lambda decision: decision.cause.offset)
        self._decisions = {decision.cause.offset: decision for decision in decisions}
        wanted = {record.offset for record in batch.records if self._span.holds(record)}
        if not batch.records:
            wanted = set(self._decisions) if self._span == _Span(0, None) else set()
            trouble: str | None = f"its events are not in the log, which begins at offset {self._log.begins}"
        else:
            self._check_letters(batch.records, wanted)
            trouble = self._apply(batch, wanted)
        for offset, decision in self._decisions.items():
            if offset in wanted:
                yield self._judged(decision) if trouble is None else self._unmade(decision, trouble)

    def _apply(self, batch: Batch, wanted: set[int]) -> str | None:
        """Apply a batch, by the pipeline or by what was logged; return why it could not be computed."""
        records = [record for record in batch.records if record.offset not in self._log.dead]
        trouble = self._enter(batch) if wanted else None
        if self._pipeline is not None and wanted and trouble is None:
            effects = self._pipeline.apply(self._log.partition, records, self._states)
            changes, dead = effects.states, effects.dead
            topic = self._replay.config.topics.decisions
            made = [_decode(value or b"") for _, value, _ in effects.outputs.get(topic, ())]
            self._made = {decision.cause.offset: decision for decision in made}
            unknown = (self._made.keys() - self._decisions.keys()) & wanted
            self._replay.unrecorded += [(self._log.partition, offset) for offset in sorted(unknown)]
        else:
            if self._recorded is None:
                self._pipeline, self._policy = None, None
                self._recorded = FromRecord(self._replay.config, self._log.partition, self._states)
            changes, dead = self._recorded.apply(records, self._states, self._decisions)
        for key, state in changes.items():
            if state is None:
                self._states.pop(key, None)
            else:
                self._states[key] = state
        self._note_refused(dead, wanted)
        return trouble

    def _check_letters(self, records: Sequence[Record], wanted: set[int]) -> None:
        """Ask today's rules of the letters that are asked for, before their batch is applied."""
        for record in records:
            logged = self._log.dead.get(record.offset)
            if logged is None or record.offset not in wanted:
                continue
            before = [
                one
                for one in records
                if one.key == record.key and one.offset < record.offset and one.offset not in self._log.dead
            ]
            now = refused_today(record, before, self._replay.config, self._log.partition, self._states)
            if now != logged:
                found = self._replay.dead_unchecked if explained(logged, now) else self._replay.dead_differences
                found.append((self._log.partition, record.offset, logged, now))

    def _note_refused(self, dead: Sequence[DeadLetter], wanted: set[int]) -> None:
        """Events that are no letters in the log and are refused today: the states lack them from here on."""
        for letter in dead:
            found = self._replay.dead_differences if letter.record.offset in wanted else self._replay.dead_unchecked
            found.append((self._log.partition, letter.record.offset, None, letter.reason))

    def _enter(self, batch: Batch) -> str | None:
        """Bring world and pipeline to where the batch was answered; return why that is impossible."""
        context = next(iter(batch.contexts), self._context)
        if context is None:  # dead letters and erasures before the first slate
            if not self._log.decisions:
                return "no decision says with which release"
            context = self._context_of(self._log.decisions[0])
        if len(batch.contexts) > 1:
            self._replay.conflicts.append((self._log.partition, min(self._decisions)))
        release = self._replay.change.release or context.release
        try:
            self.world = self._replay.worlds.at(release, context.catalogue, context.estimator)
        except ReleaseMissing as error:
            return str(error)
        self._context = context
        if self._pipeline is None or context.policy != self._policy:
            self._policy, self._pipeline, self._recorded = context.policy, self._made_of(context.policy), None
            self._pipeline.assigned(self._log.partition, self._states)
        return None

    def _made_of(self, policy: PolicyConfig) -> Pipeline:
        config, seen = self._replay.config, self._replay.change.filter_seen
        config = replace(config, policy=policy, filter_seen=config.filter_seen if seen is None else seen)
        follows = Adjuster(config.arrangement, RulesFile(config.rules_file))
        adjuster = LoggedOr(follows, lambda: self._decisions, self._estimator_known)
        return Pipeline(config, lambda: self.world, lambda: 0, popularity=self._popularity, adjuster=adjuster)

    def _estimator_known(self) -> bool:
        return self._replay.worlds.knows_estimator(self._context.estimator if self._context else None)

    def _popularity(
        self, world: World, partition: int, offsets: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The estimator's; where its snapshot is gone, what the decisions were corrected by, up to a constant a row."""
        if self._estimator_known():
            return estimated(world, partition, offsets, slots)
        result = np.zeros(slots.shape)
        for row, offset in enumerate(offsets.tolist()):
            said = _said_popularity(self._decisions.get(offset))
            there = slots[row] >= 0
            result[row, there] = [said.get(item, 0.0) for item in world.catalogue.ids(slots[row, there])]
        return result

    def _context_of(self, decision: Decision) -> Context:
        policy = replace(recorded_policy(decision, self._replay.config.policy), **self._replay.change.policy)
        return Context(decision.release, decision.estimator, tuple(decision.catalogue), policy, decision.rules)

    def _judged(self, decision: Decision) -> Replayed:
        slates = self._pipeline.last if self._pipeline is not None else None
        bench = Bench(self.world, slates, self._replay.worlds, self._log.begins)
        policy = recorded_policy(decision, self._replay.config.policy)
        return bench.judge(decision, self._made.get(decision.cause.offset), policy, not self._replay.change)

    def _unmade(self, decision: Decision, why: str) -> Replayed:
        return unmade(decision, recorded_policy(decision, self._replay.config.policy), why)


def _said_popularity(decision: Decision | None) -> dict[str, float]:
    """Log-popularity by item that gives the decision's correction again, up to a constant."""
    if decision is None or decision.beta == 0:
        return {}
    correction = np.frombuffer(decision.correction_f32, "<f4") / -decision.beta
    return {item: value for item, value in zip(decision.candidates, correction.tolist(), strict=True) if item}
