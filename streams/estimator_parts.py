"""What an online estimator of the learner is: a part that learns from outcomes, one after the other, and can be packed.

A part has a place of its own in the snapshot. To add one: write a class with the verbs of `Part`, give
`EstimatorSnapshot` an optional field of its name, and register it in `streams/estimators.py`. Here are the two oldest:
how often each item is shown, and which candidates get shown. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from index.hashing import item_hash
from policy.exposure import CalibrationAudit, ExposureModel
from policy.frequency import StreamingFrequency
from streams.contracts import ExposureState, FrequencyState, Outcome, encode

FREQUENCY_WIDTH = 4096
"""Cells a row: 0.4 MB in all. With 1,700 items an estimate is typically a fifth off; with 1,250 cells half."""

EXPOSURE_BITS = 15
EXPOSURE_UNIT = 0.5
"""Of the residuals of exposure: a predicted inclusion probability that is .05 off on average is no drift."""
HOUR_MS = 3_600_000
SEGMENT_EDGES = (1, 5, 20, 100)
SEGMENTS = ("0", "1-4", "5-19", "20-99", "100+")

Observation = tuple[dict[int, float], bool, float, float | None]
"""Features of a candidate, whether it was shown, its weight, the logged inclusion probability."""


@dataclass(slots=True)
class Seen:
    """An outcome, and what the parts would otherwise each work out for themselves.

    Attributes:
        items: n shown, then m unshown items' hashes, uint64 [n + m].
        log_popularity: natural logarithm of P(item in a slate), of each, as known before this outcome, [n + m].
        step: outcomes learned before this one.
        examination: P(the user looks at a position) of the shown items, [n]; None: no part has said it.
        segment, hour: of the user, by the events he had; of the day, UTC.
        residuals: by signal, observed − expected of this outcome, in standard deviations: a part writes them before it
            learns, drift reads them.
    """

    outcome: Outcome
    items: NDArray[np.uint64]
    log_popularity: list[float]
    segment: str
    hour: int
    step: int
    examination: NDArray[np.float64] | None = None
    residuals: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, outcome: Outcome, frequency: StreamingFrequency) -> Seen:
        """Raises ValueError for an outcome that contradicts itself."""
        check(outcome)
        items = np.array([item_hash(item) for item in outcome.items + outcome.unshown], np.uint64)
        popularity = np.log(frequency.probability(items)).tolist() if len(items) else []
        segment, hour = history_segment(outcome.history), outcome.time // HOUR_MS % 24
        return cls(outcome, items, popularity, segment, hour, frequency.step)


class Part(Protocol):
    """One online estimator. Deterministic: the same outcomes in the same order give the same state, bit by bit, also
    across `pack` and `unpack`. One thread at a time."""

    name: ClassVar[str]
    """Its field in `EstimatorSnapshot`."""
    signals: ClassVar[tuple[str, ...]]
    """First words of the signals whose drift it is to be quickened by."""

    def learn(self, seen: Seen) -> None:
        """Learn from one outcome, which has been checked."""

    def quicken(self, factor: float) -> None:
        """The world has changed: let what comes next count `factor` times as much against what is known."""

    def pack(self) -> Struct:
        """Everything needed to go on, as a message."""

    @classmethod
    def unpack(cls, state: Any) -> Self:
        """The part that gave `state`. Raises ValueError when it contradicts itself."""


class FrequencyPart:
    """How often each item is shown. Learns last: the others want the popularity from before the outcome."""

    name: ClassVar[str] = "frequency"
    signals: ClassVar[tuple[str, ...]] = ("exposure",)

    def __init__(self, frequency: StreamingFrequency | None = None) -> None:
        self.frequency = frequency or StreamingFrequency(width=FREQUENCY_WIDTH)

    def learn(self, seen: Seen) -> None:
        """One outcome is one step."""
        self.frequency.learn(seen.items[: len(seen.outcome.items)], self.frequency.step + 1)

    def quicken(self, factor: float) -> None:
        """Newer gaps count more from now on."""
        self.frequency.quicken(factor)

    def pack(self) -> FrequencyState:
        """As a message."""
        return pack_frequency(self.frequency)

    @classmethod
    def unpack(cls, state: FrequencyState) -> Self:
        """From a message."""
        return cls(unpack_frequency(state))


class ExposurePart:
    """Which candidates get shown, and how far predictions of it lie from the probabilities that the policy logged."""

    name: ClassVar[str] = "exposure"
    signals: ClassVar[tuple[str, ...]] = ("exposure",)

    def __init__(self, exposure: ExposureModel | None = None) -> None:
        self.exposure = exposure or ExposureModel(EXPOSURE_BITS)
        self.audit = StoredAudit()

    def learn(self, seen: Seen) -> None:
        """One observation for each shown and each unshown item, audited first."""
        observations = self._observations(seen) if _has_contrast(seen.outcome) else []
        rate = len(seen.outcome.items) / max(seen.outcome.candidates, 1)
        errors: dict[str, list[tuple[float, float]]] = {}
        for features, _, weight, logged in observations:
            if logged is not None:
                predicted = self.exposure.predict_one(features)
                self.audit.update(predicted, logged, weight)
                # Slates are of one size: errors over all candidates cancel whatever happens, so those of the
                # favourites and of the others are told apart.
                signal = "exposure likely" if predicted > rate else "exposure unlikely"
                errors.setdefault(signal, []).append((weight, logged - predicted))
        for signal, found in errors.items():
            mean = sum(weight * error for weight, error in found) / max(sum(weight for weight, _ in found), 1e-9)
            seen.residuals[signal] = mean / EXPOSURE_UNIT
        for features, shown, weight, _ in observations:
            self.exposure.learn_one(features, shown, weight)

    def predictions(self, seen: Seen) -> list[tuple[float, float, float]]:
        """Predicted and logged inclusion of an outcome's candidates, and their weight: for who measures."""
        return [
            (self.exposure.predict_one(features), logged, weight)
            for features, _, weight, logged in self._observations(seen)
            if logged is not None
        ]

    def quicken(self, factor: float) -> None:
        """Larger steps from now on; the audit forgets what it knew of the old world sooner."""
        self.exposure.quicken(factor)

    def pack(self) -> ExposureState:
        """As a message, without the audit, which goes beside it."""
        return pack_exposure(self.exposure)

    @classmethod
    def unpack(cls, state: ExposureState) -> Self:
        """From a message; the audit begins anew."""
        return cls(unpack_exposure(state))

    def _observations(self, seen: Seen) -> list[Observation]:
        """The candidates that the outcome tells of, weighted to stand for all candidates of the slate."""
        outcome = seen.outcome
        release = outcome.release or ""
        features = [
            self.exposure.features(seen.segment, item, log_popularity, release, seen.hour)
            for item, log_popularity in zip(outcome.items + outcome.unshown, seen.log_popularity, strict=True)
        ]
        shown, sampled = len(outcome.items), len(outcome.unshown)
        weight = (outcome.candidates - shown) / sampled if sampled else 0.0
        flags = [True] * shown + [False] * sampled
        weights = [1.0] * shown + [weight] * sampled
        logged = _or_none(outcome.inclusion, shown) + _or_none(outcome.unshown_inclusion, sampled)
        observations = list(zip(features, flags, weights, logged, strict=True))
        return [observations[at] for at in _interleaved(shown, sampled)]


class StoredAudit(CalibrationAudit):
    """The audit of the exposure model, with its state as bytes."""

    @property
    def observed(self) -> bool:
        """Whether it has seen anything."""
        return any(self._weight)

    def pack(self) -> bytes:
        """Everything needed to go on, as JSON."""
        return encode({"scale": self._scale, "weight": self._weight, "residual": self._residual})

    @classmethod
    def unpack(cls, data: bytes) -> StoredAudit:
        """The audit that gave `data`. Raises ValueError when it is not one."""
        restored = cls()
        state = msgspec.json.decode(data, type=AuditState)
        bins = len(restored._weight)
        if not len(state.weight) == len(state.residual) == bins:
            raise ValueError(
                f"audit: weight, residual hold {len(state.weight)}, {len(state.residual)}, expected {bins}"
            )
        restored._scale, restored._weight, restored._residual = state.scale, state.weight, state.residual
        return restored


class AuditState(msgspec.Struct):
    """Sums of each bin, both in units of `scale`."""

    scale: float
    weight: list[float]
    residual: list[float]


def history_segment(events: int) -> str:
    """The segment of a user with so many events: 0, 1-4, 5-19, 20-99 or 100+."""
    return SEGMENTS[bisect.bisect_right(SEGMENT_EDGES, events)]


def pack_frequency(frequency: StreamingFrequency) -> FrequencyState:
    """The frequency estimator as a message."""
    state = frequency.state()
    rows, width = state["gap"].shape
    return FrequencyState(
        alpha=state["alpha"],
        start=state["start"],
        step=state["step"],
        rows=rows,
        width=width,
        last_i64=state["last"].astype("<i8").tobytes(),
        gap_f64=state["gap"].astype("<f8").tobytes(),
        hits_i64=state["hits"].astype("<i8").tobytes(),
    )


def unpack_frequency(state: FrequencyState) -> StreamingFrequency:
    """The estimator of a message. Raises ValueError when an array has not rows·width numbers."""
    shape = (state.rows, state.width)
    arrays = {
        "last": array("frequency.last_i64", state.last_i64, "<i8", shape),
        "gap": array("frequency.gap_f64", state.gap_f64, "<f8", shape),
        "hits": array("frequency.hits_i64", state.hits_i64, "<i8", shape),
    }
    return StreamingFrequency.from_state({"alpha": state.alpha, "start": state.start, "step": state.step, **arrays})


def pack_exposure(exposure: ExposureModel) -> ExposureState:
    """The exposure model as a message."""
    state = exposure.state()
    columns = np.array(state["buckets"], np.float64).reshape(-1, 4).T
    return ExposureState(
        bits=state["bits"],
        bucket_i32=columns[0].astype("<i4").tobytes(),
        weight_f64=columns[1].astype("<f8").tobytes(),
        z_f64=columns[2].astype("<f8").tobytes(),
        n_f64=columns[3].astype("<f8").tobytes(),
        intercept=state["intercept"],
        iterations=state["iterations"],
    )


def unpack_exposure(state: ExposureState) -> ExposureModel:
    """The model of a message. Raises ValueError when its arrays differ in length or a bucket is out of range."""
    shape = (len(state.bucket_i32) // 4,)
    columns = [
        array("exposure.bucket_i32", state.bucket_i32, "<i4", shape),
        array("exposure.weight_f64", state.weight_f64, "<f8", shape),
        array("exposure.z_f64", state.z_f64, "<f8", shape),
        array("exposure.n_f64", state.n_f64, "<f8", shape),
    ]
    buckets = list(zip(*(column.tolist() for column in columns), strict=True))
    numbers = {"bits": state.bits, "intercept": state.intercept, "iterations": state.iterations}
    return ExposureModel.from_state({"buckets": buckets, **numbers})


def array(name: str, data: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array of a message's field. Raises ValueError naming it when it has another number of bytes."""
    expected = np.dtype(dtype).itemsize * math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"{name} holds {len(data)} bytes, expected {expected}: {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape)


def _interleaved(shown: int, sampled: int) -> list[int]:
    """An order of shown + sampled observations that spreads either kind evenly.

    The newest gradient counts most: with all the unshown ones last, every prediction would be too low.
    """
    places = [(at + 0.5) / shown for at in range(shown)] + [(at + 0.5) / sampled for at in range(sampled)]
    return sorted(range(len(places)), key=places.__getitem__)


def _or_none(values: Sequence[float] | None, length: int) -> list[float | None]:
    return [None] * length if values is None else list(values)


def _has_contrast(outcome: Outcome) -> bool:
    """Whether the outcome tells what was not shown: a sample of it, or that nothing was left out.

    Without it (another system's slate, or no sample logged) the exposure model would learn that everything is
    shown.
    """
    return len(outcome.items) > 0 and (bool(outcome.unshown) or outcome.candidates == len(outcome.items))


def check(outcome: Outcome) -> None:
    """Raises ValueError for an outcome that contradicts itself."""
    shown, sampled = len(outcome.items), len(outcome.unshown)
    for name, values, size in (
        ("rewards", outcome.rewards, shown),
        ("inclusion", outcome.inclusion, shown),
        ("unshown_inclusion", outcome.unshown_inclusion, sampled),
    ):
        if values is not None and len(values) != size:
            raise ValueError(f"{name} holds {len(values)} numbers, expected {size}, one for each item")
    if outcome.candidates and outcome.candidates < shown + sampled:
        raise ValueError(f"candidates is {outcome.candidates}, expected at least the {shown + sampled} items named")
