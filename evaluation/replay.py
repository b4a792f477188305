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

from evaluation.replay_batches import Answer, Batch, Context, batches
from evaluation.replay_verdict import TOLERANCE as TOLERANCE
from evaluation.replay_verdict import Bench, Replayed, unmade
from evaluation.replay_world import ReleaseMissing, Worlds
from policy.slate import PolicyConfig
from streams.contracts import Decision
from streams.job import DeadLetter, Effects, Record
from streams.pipeline import Pipeline, PipelineConfig, estimated
from streams.world import World

ENGINE_REASONS = ("handler_error", "too_large")
"""Reasons of dead letters that the engine gives, not the fold: such an event must be left out of a replay."""

_decode = msgspec.json.Decoder(Decision).decode


@dataclass(frozen=True, slots=True)
class PartitionLog:
    """What the topics hold of one partition, each in order of offset.

    Attributes:
        partition: its number.
        events: records of `events`.
        decisions: of `decisions`.
        tombstones: of `recommendations`: user's key, offsets covered.
        dead: events in the dead-letter topic: offset → reason.
        begins: first offset that the log still has; above 0, users may have a history that it does not tell.
    """

    partition: int
    events: Sequence[Record]
    decisions: Sequence[Decision]
    tombstones: Sequence[tuple[bytes, Sequence[int]]] = ()
    dead: Mapping[int, str] = field(default_factory=dict)
    begins: int = 0


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
        conflicts: (partition, offset) of batches whose slates name different contexts, which one log cannot hold.
    """

    def __init__(self, config: PipelineConfig, worlds: Worlds, change: Change = Change(), largest: int = 64) -> None:
        self._config = config
        self.worlds = worlds
        self._change = change
        self._largest = largest
        self.states: dict[int, dict[bytes, bytes]] = {}
        self.unrecorded: list[tuple[int, int]] = []
        self.dead_differences: list[tuple[int, int, str | None, str | None]] = []
        self.conflicts: list[tuple[int, int]] = []

    def run(self, log: PartitionLog) -> Iterator[Replayed]:
        """Yield what became of each decision of the partition, from the beginning of its log."""
        run = _Run(self, log)
        for batch in batches(run.usable(), run.answers(), self._largest):
            yield from run.step(batch)

    # -- what a run asks for -----------------------------------------------------------------------

    def policy(self, decision: Decision) -> PolicyConfig:
        """The policy to decide with: what was logged, and what is changed."""
        return replace(recorded_policy(decision, self.rest), **self._change.policy)

    def pipeline(self, policy: PolicyConfig, run: _Run) -> Pipeline:
        """A pipeline of that policy that works with what `run` says."""
        seen = self._config.filter_seen if self._change.filter_seen is None else self._change.filter_seen
        config = replace(self._config, policy=policy, filter_seen=seen)
        return Pipeline(config, lambda: run.world, clock=lambda: 0, popularity=run.popularity)

    def world(self, context: Context) -> World:
        """The world to compute with. Raises `ReleaseMissing`."""
        return self.worlds.at(self._change.release or context.release, context.catalogue, context.estimator)

    @property
    def checks(self) -> bool:
        """Whether slates should come out as they are in the log."""
        return not self._change

    @property
    def rest(self) -> PolicyConfig:
        """What decisions do not name of their policy."""
        return self._config.policy

    @property
    def decisions_topic(self) -> str:
        return self._config.topics.decisions


class _Run:
    """One partition on its way through the pipeline."""

    def __init__(self, replay: Replay, log: PartitionLog) -> None:
        self._replay = replay
        self._log = log
        self._states = replay.states.setdefault(log.partition, {})
        self._policy: PolicyConfig | None = None
        self._pipeline: Pipeline | None = None
        self._estimator: str | None = None
        self._answers: dict[int, Decision] = {}
        self._broken: str | None = None
        self.world: World

    def usable(self) -> Iterator[Record]:
        """The events that a worker folded or refused by itself."""
        for record in self._log.events:
            if self._log.dead.get(record.offset) not in ENGINE_REASONS:
                yield record

    def answers(self) -> Iterator[Answer]:
        for decision in self._log.decisions:
            context = Context(
                decision.release, decision.estimator, tuple(decision.catalogue), self._replay.policy(decision)
            )
            yield Answer(decision.user.encode(), decision.covers, decision, context)
        for user, covers in self._log.tombstones:
            yield Answer(user, covers)

    def step(self, batch: Batch) -> Iterator[Replayed]:
        """Apply one batch, take its states over, and say what became of its decisions."""
        self._answers = {a.decision.cause.offset: a.decision for a in batch.answers if a.decision is not None}
        trouble = self._broken or self._enter(batch)
        if trouble is not None or not batch.records or self._pipeline is None:
            why = trouble or "its events are no longer in the log"
            yield from (unmade(decision, self._recorded(decision), why) for decision in self._answers.values())
            return
        effects = self._pipeline.apply(self._log.partition, batch.records, self._states)
        for key, state in effects.states.items():
            if state is None:
                self._states.pop(key, None)
            else:
                self._states[key] = state
        self._compare_dead(batch.records, effects.dead)
        yield from self._judge(effects)

    def popularity(
        self, world: World, partition: int, offsets: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The estimator's; where its snapshot is gone, what the decisions were corrected by, up to a constant a row."""
        if self._replay.worlds.knows_estimator(self._estimator):
            return estimated(world, partition, offsets, slots)
        rows = []
        for offset, row in zip(offsets.tolist(), slots, strict=True):
            said = _said_popularity(self._answers.get(offset))
            there = [world.catalogue.ids([slot])[0] if slot >= 0 else "" for slot in row.tolist()]
            rows.append([said.get(item, 0.0) for item in there])
        return np.array(rows).reshape(slots.shape)

    def _enter(self, batch: Batch) -> str | None:
        """Bring world and pipeline to where the batch was answered; return why that is impossible."""
        contexts = batch.contexts
        if not contexts:
            return None if self._pipeline is not None else self._without_context(batch)
        context = contexts[0]
        if len(contexts) > 1:
            self._replay.conflicts.append((self._log.partition, min(self._answers)))
        self._estimator = context.estimator
        try:
            self.world = self._replay.world(context)
        except ReleaseMissing as error:
            # Folding on without its slates would make states that nobody ever had.
            self._broken = f"{error}; from here on only choices are checked in this partition"
            return self._broken
        if self._pipeline is None or context.policy != self._policy:
            self._policy, self._pipeline = context.policy, self._replay.pipeline(context.policy, self)
            self._pipeline.assigned(self._log.partition, self._states)
        return None

    def _without_context(self, batch: Batch) -> str | None:
        """Before the first slate there is nothing to compute with, and nothing but dead letters and erasures."""
        decision = next(iter(self._log.decisions), None)
        if decision is None:
            return "no decision says with which release"
        context = Context(
            decision.release, decision.estimator, tuple(decision.catalogue), self._replay.policy(decision)
        )
        return self._enter(replace(batch, answers=[*batch.answers, Answer(b"", [], None, context)]))

    def _judge(self, effects: Effects) -> Iterator[Replayed]:
        outputs = effects.outputs.get(self._replay.decisions_topic, ())
        made = {decision.cause.offset: decision for decision in (_decode(value or b"") for _, value, _ in outputs)}
        partition = self._log.partition
        self._replay.unrecorded += [(partition, offset) for offset in made if offset not in self._answers]
        slates = self._pipeline.last if self._pipeline is not None else None
        bench = Bench(self.world, slates, made, self._replay.worlds, self._log.begins)
        for offset, decision in self._answers.items():
            yield bench.judge(decision, made.get(offset), self._recorded(decision), self._replay.checks)

    def _recorded(self, decision: Decision) -> PolicyConfig:
        return recorded_policy(decision, self._replay.rest)

    def _compare_dead(self, records: Sequence[Record], dead: Sequence[DeadLetter]) -> None:
        found = {letter.record.offset: letter.reason for letter in dead}
        for offset in sorted({record.offset for record in records} & (found.keys() | self._log.dead.keys())):
            logged, now = self._log.dead.get(offset), found.get(offset)
            if logged != now:
                self._replay.dead_differences.append((self._log.partition, offset, logged, now))


def recorded_policy(decision: Decision, rest: PolicyConfig) -> PolicyConfig:
    """The policy that made a decision; what it does not name is taken from `rest`."""
    available = len(decision.candidates) - decision.candidates.count(None)
    shown = len(decision.chosen)
    return replace(
        rest,
        k=shown if shown < available else max(shown, min(rest.k, len(decision.candidates) - decision.injected)),
        candidates=len(decision.candidates) - decision.injected,
        injected=decision.injected,
        temperature=decision.temperature,
        epsilon=decision.epsilon,
        beta=decision.beta,
        seed=decision.seed,
    )


def _said_popularity(decision: Decision | None) -> dict[str, float]:
    """Log-popularity by item that gives the decision's correction again, up to a constant."""
    if decision is None or decision.beta == 0:
        return {}
    correction = np.frombuffer(decision.correction_f32, "<f4") / -decision.beta
    return {item: value for item, value in zip(decision.candidates, correction.tolist(), strict=True) if item}
