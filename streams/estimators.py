"""The online estimators together: what one outcome after the other teaches them, and their state as one message.

Each is a part (streams/estimator_parts.py); this is the list of them. Deterministic: the same outcomes in the same
order give the same state, bit by bit, also across a snapshot. One learner is active at a time, so states of two are
never merged. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from policy.drift import Alarm
from policy.exposure import ExposureModel
from policy.frequency import StreamingFrequency
from streams.contracts import EstimatorSnapshot, Outcome, encode
from streams.estimator_clicks import ClicksPart, DriftPart
from streams.estimator_fairness import FairnessPart
from streams.estimator_parts import ExposurePart, FrequencyPart, Part, Seen, StoredAudit

P = TypeVar("P", bound=Part)

PARTS: tuple[type[Part], ...] = (ExposurePart, ClicksPart, FairnessPart, DriftPart, FrequencyPart)
"""In the order in which they learn from an outcome."""

QUICKENED = 8.0
"""After an alarm, what comes next counts so many times as much beside what was known."""


class Estimators:
    """All parts, learned together. One thread at a time."""

    def __init__(self, parts: Mapping[str, Part] | None = None) -> None:
        """`parts`: by name; those that are missing begin anew."""
        known = parts or {}
        self.parts = {part.name: known.get(part.name) or part() for part in PARTS}
        self.outcomes = 0

    def learn(self, outcome: Outcome) -> list[Alarm]:
        """Learn from one outcome; the drift that it gave away, which the parts concerned have been quickened by.

        Raises ValueError for one that contradicts itself; nothing is learned from it then.
        """
        seen = Seen.of(outcome, self.frequency)
        for part in self.parts.values():
            part.learn(seen)
        self.outcomes += 1
        alarms = self.part(DriftPart).take()
        drifted = {alarm.signal.split()[0] for alarm in alarms}
        for part in self.parts.values():
            if drifted & {*part.signals}:
                part.quicken(QUICKENED)
        return alarms

    def part(self, kind: type[P]) -> P:
        """The part of a kind."""
        found = self.parts[kind.name]
        if not isinstance(found, kind):
            raise TypeError(f"part {kind.name} is a {type(found).__name__}, expected a {kind.__name__}")
        return found

    @property
    def frequency(self) -> StreamingFrequency:
        """How often each item is shown."""
        return self.part(FrequencyPart).frequency

    @property
    def exposure(self) -> ExposureModel:
        """Which candidates get shown."""
        return self.part(ExposurePart).exposure

    @property
    def audit(self) -> StoredAudit:
        """How far predicted exposure lies from the probabilities that the policy logged."""
        return self.part(ExposurePart).audit

    @property
    def calibration_error(self) -> float | None:
        """Of predicted against logged inclusion, over the candidates of recent slates; None before the first."""
        return self.audit.calibration_error if self.audit.observed else None

    def snapshot(self, offsets: Mapping[int, int], created: int) -> EstimatorSnapshot:
        """The estimators' state as a message: `offsets` are the next of each partition, `created` in ms.

        Its id says how many outcomes were learned, and with the same content it is the same.
        """
        sections = {name: part.pack() for name, part in self.parts.items()}
        named = {str(partition): offsets[partition] for partition in sorted(offsets)}
        content = (named, self.outcomes, sections, self.calibration_error)
        digest = hashlib.blake2b(encode(content), digest_size=4).hexdigest()
        return EstimatorSnapshot(
            estimator=f"e{self.outcomes}-{digest}",
            created=created,
            offsets=named,
            outcomes=self.outcomes,
            calibration_error=self.calibration_error,
            **sections,  # type: ignore[arg-type]
        )

    @classmethod
    def from_snapshot(cls, snapshot: EstimatorSnapshot, audit: bytes | None = None) -> Estimators:
        """The estimators that gave `snapshot`; `audit` is what `StoredAudit.pack` gave, None: start a new one.

        A part that the snapshot, an older driftline's, does not have begins anew. Raises ValueError when the state
        contradicts itself.
        """
        sections = {part: getattr(snapshot, part.name) for part in PARTS}
        restored = cls({part.name: part.unpack(state) for part, state in sections.items() if state is not None})
        if audit is not None:
            restored.part(ExposurePart).audit = StoredAudit.unpack(audit)
        restored.outcomes = snapshot.outcomes
        return restored
