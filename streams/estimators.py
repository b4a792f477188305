"""The online estimators: what one outcome after the other teaches them, and their state as messages.

Three learn together: how often each item is shown, which candidates get shown, and how far predictions of
that lie from the probabilities that the policy logged. Deterministic: the same outcomes in the same order
give the same state, bit by bit, also across a snapshot. Knows the contracts; knows nothing of Kafka.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from index.hashing import item_hash
from policy.exposure import CalibrationAudit, ExposureModel
from policy.frequency import StreamingFrequency
from streams.contracts import EstimatorSnapshot, ExposureState, FrequencyState, Outcome, encode

FREQUENCY_WIDTH = 4096
"""Cells a row: 0.4 MB in all. With 1,700 items an estimate is typically a fifth off; with 1,250 cells half."""

EXPOSURE_BITS = 15
HOUR_MS = 3_600_000
SEGMENT_EDGES = (1, 5, 20, 100)
SEGMENTS = ("0", "1-4", "5-19", "20-99", "100+")

Observation = tuple[dict[int, float], bool, float, float | None]
"""Features of a candidate, whether it was shown, its weight, the logged inclusion probability."""


class Estimators:
    """Item frequency, exposure model and its audit, learned together. One thread at a time."""

    def __init__(self) -> None:
        self.frequency = StreamingFrequency(width=FREQUENCY_WIDTH)
        self.exposure = ExposureModel(EXPOSURE_BITS)
        self.audit = StoredAudit()
        self.outcomes = 0

    def learn(self, outcome: Outcome) -> None:
        """Learn from one outcome: one step of the frequency, one observation for each shown and each unshown item.

        Raises ValueError for an outcome that contradicts itself; nothing is learned from it then.
        """
        _check(outcome)
        hashes = _hashes(outcome.items + outcome.unshown)
        observations = self._observations(outcome, hashes) if _has_contrast(outcome) else []
        for features, _, weight, logged in observations:
            if logged is not None:
                self.audit.update(self.exposure.predict_one(features), logged, weight)
        for features, shown, weight, _ in observations:
            self.exposure.learn_one(features, shown, weight)
        self.frequency.learn(hashes[: len(outcome.items)], self.frequency.step + 1)
        self.outcomes += 1

    def _observations(self, outcome: Outcome, hashes: NDArray[np.uint64]) -> list[Observation]:
        """The candidates that the outcome tells of, weighted to stand for all candidates of the slate."""
        popularity = np.log(self.frequency.probability(hashes)).tolist()
        segment, hour = history_segment(outcome.history), outcome.time // HOUR_MS % 24
        release = outcome.release or ""
        features = [
            self.exposure.features(segment, item, log_popularity, release, hour)
            for item, log_popularity in zip(outcome.items + outcome.unshown, popularity, strict=True)
        ]
        shown, sampled = len(outcome.items), len(outcome.unshown)
        weight = (outcome.candidates - shown) / sampled if sampled else 0.0
        flags = [True] * shown + [False] * sampled
        weights = [1.0] * shown + [weight] * sampled
        logged = _or_none(outcome.inclusion, shown) + _or_none(outcome.unshown_inclusion, sampled)
        observations = list(zip(features, flags, weights, logged, strict=True))
        return [observations[at] for at in _interleaved(shown, sampled)]

    @property
    def calibration_error(self) -> float | None:
        """Of predicted against logged inclusion, over the candidates of recent slates; None before the first."""
        return self.audit.calibration_error if self.audit.observed else None

    def snapshot(self, offsets: Mapping[int, int], created: int) -> EstimatorSnapshot:
        """The estimators' state as a message: `offsets` are the next of each partition, `created` in ms.

        Its id says how many outcomes were learned, and with the same content it is the same.
        """
        frequency, exposure = pack_frequency(self.frequency), pack_exposure(self.exposure)
        named = {str(partition): offsets[partition] for partition in sorted(offsets)}
        content = (named, self.outcomes, frequency, exposure, self.calibration_error)
        digest = hashlib.blake2b(encode(content), digest_size=4).hexdigest()
        return EstimatorSnapshot(
            estimator=f"e{self.outcomes}-{digest}",
            created=created,
            offsets=named,
            outcomes=self.outcomes,
            frequency=frequency,
            exposure=exposure,
            calibration_error=self.calibration_error,
        )

    @classmethod
    def from_snapshot(cls, snapshot: EstimatorSnapshot, audit: bytes | None = None) -> Estimators:
        """The estimators that gave `snapshot`; `audit` is what `StoredAudit.pack` gave, None: start a new one.

        Raises ValueError when the state contradicts itself.
        """
        restored = cls()
        restored.frequency = unpack_frequency(snapshot.frequency)
        restored.exposure = unpack_exposure(snapshot.exposure)
        restored.audit = StoredAudit() if audit is None else StoredAudit.unpack(audit)
        restored.outcomes = snapshot.outcomes
        return restored


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
        "last": _array("frequency.last_i64", state.last_i64, "<i8", shape),
        "gap": _array("frequency.gap_f64", state.gap_f64, "<f8", shape),
        "hits": _array("frequency.hits_i64", state.hits_i64, "<i8", shape),
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
        _array("exposure.bucket_i32", state.bucket_i32, "<i4", shape),
        _array("exposure.weight_f64", state.weight_f64, "<f8", shape),
        _array("exposure.z_f64", state.z_f64, "<f8", shape),
        _array("exposure.n_f64", state.n_f64, "<f8", shape),
    ]
    buckets = list(zip(*(column.tolist() for column in columns), strict=True))
    numbers = {"bits": state.bits, "intercept": state.intercept, "iterations": state.iterations}
    return ExposureModel.from_state({"buckets": buckets, **numbers})


def _array(name: str, data: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    expected = np.dtype(dtype).itemsize * math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"{name} holds {len(data)} bytes, expected {expected}: {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape)


def _hashes(items: Sequence[str]) -> NDArray[np.uint64]:
    return np.array([item_hash(item) for item in items], np.uint64)


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


def _check(outcome: Outcome) -> None:
    shown, sampled = len(outcome.items), len(outcome.unshown)
    for name, values, size in (
        ("inclusion", outcome.inclusion, shown),
        ("unshown_inclusion", outcome.unshown_inclusion, sampled),
    ):
        if values is not None and len(values) != size:
            raise ValueError(f"{name} holds {len(values)} numbers, expected {size}, one for each item")
    if outcome.candidates and outcome.candidates < shown + sampled:
        raise ValueError(f"candidates is {outcome.candidates}, expected at least the {shown + sampled} items named")
