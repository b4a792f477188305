"""What an interaction that answered a slate is worth to training: its doubly robust pseudo-reward, bounded.

The trainer has estimators of clicks of its own, learned from the outcomes of its rounds and kept with its checkpoint:
whoever repeats the rounds comes to the same weights. A slate is weighed before anything is learned from it. Knows the
contracts; knows nothing of Kafka or of how a model is trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from policy.reward import LARGEST_WEIGHT
from streams.contracts import ClicksState, DriftState, Outcome, encode
from streams.estimator_clicks import ClicksPart, DriftPart
from streams.estimator_parts import HOUR_MS, Seen, check, history_segment

QUICKENED = 8.0
"""After an alarm, what comes next counts so many times as much beside what was known."""


class CorrectionState(msgspec.Struct, frozen=True):
    """Both estimators, as in a snapshot of the learner's."""

    clicks: ClicksState
    drift: DriftState


@dataclass(frozen=True, slots=True)
class Slate:
    """What a user was shown at a time (ms): `items` in order of position, which were clicked, and η of each."""

    time: int
    items: list[str]
    clicks: list[bool]
    examination: list[float]


class Correction:
    """Examination, reward and drift, as the trainer knows them. One thread at a time."""

    def __init__(self, clicks: ClicksPart | None = None, drift: DriftPart | None = None) -> None:
        self._clicks, self._drift = clicks or ClicksPart(), drift or DriftPart()

    def learn(self, outcome: Outcome) -> tuple[list[tuple[str, float]], list[str]]:
        """The items that were clicked with what each is worth as a lesson, and the signals that have drifted.

        A click at the first position of an item that was shown for certain is worth 1; the unlikelier it was to be
        shown and looked at the more, LARGEST_WEIGHT at most; nothing is said where no inclusion was logged. Raises
        ValueError for an outcome that contradicts itself; nothing is learned from it then.
        """
        check(outcome)
        seen = Seen(
            outcome=outcome,
            items=np.empty(0, np.uint64),
            log_popularity=[],
            segment=history_segment(outcome.history),
            hour=outcome.time // HOUR_MS % 24,
            step=self._clicks.outcomes,
        )
        worth = self._clicks.worth(seen)
        self._clicks.learn(seen)
        self._drift.learn(seen)
        alarms = self._drift.take()
        if alarms:
            self._clicks.quicken(QUICKENED)
        found = []
        if worth is not None:
            bounded = np.minimum(worth.pseudo_reward, LARGEST_WEIGHT)[worth.clicks]
            clicked = [item for item, click in zip(outcome.items, worth.clicks.tolist(), strict=True) if click]
            found = list(zip(clicked, bounded.tolist(), strict=True))
        return found, [alarm.signal for alarm in alarms]

    def slate(self, outcome: Outcome) -> Slate | None:
        """The slate as a lesson, by what is known so far; None for another system's, of which η is not known."""
        n, segment = len(outcome.items), history_segment(outcome.history)
        if outcome.origin != "driftline" or not 0 < n <= self._clicks.examination.positions:
            return None
        clicks = [reward > 0 for reward in outcome.rewards]
        return Slate(outcome.time, outcome.items, clicks, self._clicks.examination.predict(segment)[:n].tolist())

    @property
    def alarms(self) -> int:
        """Drift alarms so far."""
        return sum(self._drift.watch.alarms.values())

    def pack(self) -> bytes:
        """Everything needed to go on, as JSON."""
        return encode(CorrectionState(self._clicks.pack(), self._drift.pack()))

    @classmethod
    def unpack(cls, data: bytes) -> Correction:
        """The correction that gave `data`. Raises ValueError when it cannot be read."""
        state = msgspec.json.decode(data, type=CorrectionState)
        return cls(ClicksPart.unpack(state.clicks), DriftPart.unpack(state.drift))
