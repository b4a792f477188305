"""What clicks teach the learner: examination and reward, learned from each other, and checked by exchanged slates.

A slate's reward is predicted before anything is learned from it; what was clicked beyond that is a residual for the
drift watch, by position and by segment of users. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from policy.drift import Alarm, DriftWatch
from policy.examination import Examination
from policy.reward import RewardModel, pseudo_reward
from policy.swap_check import SwapCheck
from streams.contracts import ClicksState, DriftSignal, DriftState, ExaminationState, RewardState, SwapState
from streams.estimator_parts import Seen, array

CHECK_EVERY = 500
"""Outcomes between two comparisons of swaps with what was learned: one takes a few milliseconds."""

WATCHED_POSITIONS = 20
"""Further ones are clicked too rarely to tell anything soon."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a slate's outcome is worth as a lesson: `clicks` [n], `pseudo_reward` [n] of its items."""

    clicks: NDArray[np.bool_]
    pseudo_reward: Floats


class ClicksPart:
    """P(click) = η · r̂: `examination` by position and segment, `reward` by item and segment; `swaps` checks them."""

    name: ClassVar[str] = "clicks"
    signals: ClassVar[tuple[str, ...]] = ("position", "segment")

    def __init__(self) -> None:
        self.examination, self.reward, self.swaps = Examination(), RewardModel(), SwapCheck()
        self.outcomes = 0
        self.disagree: list[int] = []

    def learn(self, seen: Seen) -> None:
        """Learn from a slate of ours; of another system's it is not known how it is looked at."""
        outcome, n = seen.outcome, len(seen.outcome.items)
        if outcome.origin != "driftline" or not 0 < n <= self.examination.positions:
            return
        clicks = np.array(outcome.rewards) > 0
        features = self.reward.features(seen.segment, outcome.items)
        reward = self.reward.predict(features)
        seen.examination = examination = self.examination.predict(seen.segment)[:n]
        self._residuals(seen, clicks, examination * reward)
        self.examination.learn(seen.segment, clicks, reward)
        self.reward.learn(features, clicks, self.examination.predict(seen.segment)[:n])
        random_order = bool(outcome.uniform) and not outcome.pinned
        first, *second = outcome.swapped or [0]
        self.swaps.learn(clicks, swapped=(first, second[0]) if second else None, uniform=random_order)
        self.outcomes += 1
        if self.outcomes % CHECK_EVERY == 0:
            self._check(n)

    def worth(self, seen: Seen) -> Worth | None:
        """Doubly robust pseudo-rewards of the slate's items; None where no inclusion was logged."""
        outcome, n = seen.outcome, len(seen.outcome.items)
        if outcome.inclusion is None or not 0 < n <= self.examination.positions:
            return None
        clicks = np.array(outcome.rewards) > 0
        reward = self.reward.predict(self.reward.features(seen.segment, outcome.items))
        examination = self.examination.predict(seen.segment)[:n]
        return Worth(clicks, pseudo_reward(reward, clicks, examination, np.array(outcome.inclusion)))

    def quicken(self, factor: float) -> None:
        """Examination follows faster; what items are worth half as much faster: either explains the other's change."""
        self.examination.quicken(factor)
        self.reward.quicken(max(1.0, factor / 2))

    def pack(self) -> ClicksState:
        """As a message."""
        return ClicksState(
            _pack_examination(self.examination),
            _pack_reward(self.reward),
            _pack_swaps(self.swaps),
            self.outcomes,
            list(self.disagree),
        )

    @classmethod
    def unpack(cls, state: ClicksState) -> Self:
        """From a message."""
        restored = cls()
        restored.examination = _unpack_examination(state.examination)
        restored.reward, restored.swaps = _unpack_reward(state.reward), _unpack_swaps(state.swaps)
        restored.outcomes, restored.disagree = state.outcomes, list(state.disagree)
        return restored

    def _residuals(self, seen: Seen, clicks: NDArray[np.bool_], expected: Floats) -> None:
        chance = np.minimum(expected, 0.999)
        found = (clicks - chance) / np.sqrt(chance * (1 - chance))
        for position, residual in enumerate(found[:WATCHED_POSITIONS].tolist()):
            seen.residuals[f"position {position + 1}"] = residual
        seen.residuals[f"segment {seen.segment}"] = float(found.sum() / np.sqrt(len(found)))

    def _check(self, positions: int) -> None:
        error = 1 / np.sqrt(np.maximum(self.examination.clicks()[:positions], 1e-9))
        learned = self.examination.predict()[:positions]
        self.disagree = self.swaps.curve(positions).disagrees(learned, np.hypot(error, error[0])).tolist()


class DriftPart:
    """Watches the residuals of the parts before it."""

    name: ClassVar[str] = "drift"
    signals: ClassVar[tuple[str, ...]] = ()

    def __init__(self, watch: DriftWatch | None = None) -> None:
        self.watch = watch or DriftWatch()
        self._alarms: list[Alarm] = []

    def learn(self, seen: Seen) -> None:
        """Take the residuals of an outcome."""
        if seen.residuals:
            self._alarms += self.watch.update(seen.residuals)

    def take(self) -> list[Alarm]:
        """The alarms since the last time."""
        found, self._alarms = self._alarms, []
        return found

    def quicken(self, factor: float) -> None:
        """It forgets by itself, after each alarm."""

    def pack(self) -> DriftState:
        """As a message."""
        state = self.watch.state()
        signals = [DriftSignal(*signal) for signal in state["signals"]]
        return DriftState(state["updates"], state["quiet"], state["alarms"], state["last"], signals)

    @classmethod
    def unpack(cls, state: DriftState) -> Self:
        """From a message."""
        signals = [[one.name, one.up, one.down, one.changed, one.adwin] for one in state.signals]
        counts = {"updates": state.updates, "quiet": state.quiet, "alarms": state.alarms, "last": state.last}
        return cls(DriftWatch.from_state(counts | {"signals": signals}))


def _pack_examination(examination: Examination) -> ExaminationState:
    state = examination.state()
    sums = [state[name].astype("<f8").tobytes() for name in ("clicks", "expected")]
    return ExaminationState(state["half_life"], state["contexts"], state["clicks"].shape[1], *sums)


def _unpack_examination(state: ExaminationState) -> Examination:
    shape = (len(state.contexts), state.positions)
    sums = {
        "clicks": array("examination.clicks_f64", state.clicks_f64, "<f8", shape),
        "expected": array("examination.expected_f64", state.expected_f64, "<f8", shape),
    }
    return Examination.from_state({"half_life": state.half_life, "contexts": state.contexts, **sums})


def _pack_reward(reward: RewardModel) -> RewardState:
    state = reward.state()
    arrays = [state["bucket"].astype("<i4").tobytes()]
    arrays += [state[name].astype("<f8").tobytes() for name in ("weight", "information")]
    return RewardState(state["bits"], state["memory"], *arrays)


def _unpack_reward(state: RewardState) -> RewardModel:
    shape = (len(state.bucket_i32) // 4,)
    arrays = {
        "bucket": array("reward.bucket_i32", state.bucket_i32, "<i4", shape),
        "weight": array("reward.weight_f64", state.weight_f64, "<f8", shape),
        "information": array("reward.information_f64", state.information_f64, "<f8", shape),
    }
    return RewardModel.from_state({"bits": state.bits, "memory": state.memory, **arrays})


def _pack_swaps(swaps: SwapCheck) -> SwapState:
    state = swaps.state()
    arrays = [state["cell"].astype("<i4").tobytes()]
    arrays += [state[name].astype("<f8").tobytes() for name in ("shown", "clicks")]
    return SwapState(state["half_life"], state["positions"], state["scale"], *arrays)


def _unpack_swaps(state: SwapState) -> SwapCheck:
    shape = (len(state.cell_i32) // 4,)
    arrays = {
        "cell": array("swaps.cell_i32", state.cell_i32, "<i4", shape),
        "shown": array("swaps.shown_f64", state.shown_f64, "<f8", shape),
        "clicks": array("swaps.clicks_f64", state.clicks_f64, "<f8", shape),
    }
    numbers = {"half_life": state.half_life, "positions": state.positions, "scale": state.scale}
    return SwapCheck.from_state(numbers | arrays)
