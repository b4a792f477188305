"""Which candidates are shown, in which order, and with which probability.

Per event, in this order: correct the base logits for popularity, draw a slate from the Plackett-Luce / uniform mixture,
and state its probabilities. A pure function of the numbers given, so that what was logged can be drawn again
byte for byte. Knows nothing of Kafka, of users or of how logits are computed.

Four quantities are kept apart: the correction and the logits (what was wanted), the chain of conditional
probabilities (of this ordered slate), the propensity (of an item at its position), the inclusion (of an item in the
slate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy import mixture
from policy.plackett_luce import Floats, Ints
from policy.randomness import KEY_LIMIT, distinct_ranks, uniforms

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class PolicyConfig:
    """How slates are drawn. Temperature, epsilon and beta are starting points, to be tuned on randomised traffic.

    `candidates` are retrieved and `injected` drawn from the rest of the catalogue: width = candidates + injected.
    `marginals`: also compute propensities and inclusions; it changes no choice. `unshown_sample`: how many
    candidates that were not shown get their inclusion computed too.
    """

    k: int = 10
    candidates: int = 100
    injected: int = 2
    temperature: float = 0.35
    epsilon: float = 0.02
    beta: float = 0.1
    seed: int = 0
    marginals: bool = True
    unshown_sample: int = 4

    def __post_init__(self) -> None:
        limits = {
            "k": (1 <= self.k <= self.candidates, f"1 to candidates ({self.candidates})"),
            "injected": (self.injected >= 0, "at least 0"),
            "temperature": (self.temperature > 0 and math.isfinite(self.temperature), "a positive number"),
            "epsilon": (0 <= self.epsilon <= 1, "0 to 1"),
            "beta": (self.beta >= 0 and math.isfinite(self.beta), "a finite number, at least 0"),
            "seed": (0 <= self.seed < KEY_LIMIT, "0 to 2**64 - 1"),
            "unshown_sample": (self.unshown_sample >= 0, "at least 0"),
        }
        for name, (valid, expected) in limits.items():
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {expected}")

    @property
    def width(self) -> int:
        """Candidate columns of a slate: retrieved ones first, then injected ones."""
        return self.candidates + self.injected


@dataclass(frozen=True)
class Noise:
    """The uniform numbers of a batch, by what they decide."""

    gumbel: Floats  # [B, width]
    arm: Floats  # [B]
    injection: Floats  # [B, injected]
    unshown: Floats  # [B, unshown_sample]


@dataclass(frozen=True)
class Choice:
    """What was chosen and with which probability. The last four are None unless config.marginals."""

    uniform_arm: NDArray[np.bool_]  # [B]: the slate came from the uniform arm
    chosen: Ints  # [B, k] columns of the candidates, -1 beyond what is available
    conditional: Floats  # [B, k] P(this item here | those before it), 1 where chosen is -1
    log_probability: Floats  # [B] of the ordered slate
    propensity: Floats | None  # [B, k] P(this item at this position), 0 where chosen is -1
    inclusion: Floats | None  # [B, k] P(this item in the slate), 0 where chosen is -1
    unshown: Ints | None  # [B, unshown_sample] columns drawn uniformly from those not shown, -1 = none
    unshown_inclusion: Floats | None  # [B, unshown_sample] P(that item in the slate)


@dataclass(frozen=True)
class Decisions(Choice):
    """A choice and the logits it was drawn from: logits == base + correction, exactly, in float32."""

    correction: Floats32  # [B, C], 0 in empty columns
    logits: Floats32  # [B, C], -inf in empty columns


def draws(config: PolicyConfig) -> int:
    """How many uniform numbers an event owns. Does not depend on `marginals`."""
    return config.width + 1 + config.injected + config.unshown_sample


def noise(config: PolicyConfig, partition: int, offsets: Ints) -> Noise:
    """The uniform numbers of the events at `offsets` (int64 [B], ascending) of a partition."""
    return split(config, uniforms(config.seed, partition, offsets, draws(config)))


def split(config: PolicyConfig, drawn: Floats) -> Noise:
    """Name the parts of the uniform numbers of a batch, float64 [B, draws(config)]."""
    gumbel, arm, injection, unshown = np.split(drawn, np.cumsum([config.width, 1, config.injected]).tolist(), axis=1)
    return Noise(gumbel, arm[:, 0], injection, unshown)


def decide(config: PolicyConfig, slots: Ints, base: Floats32, log_popularity: Floats, noise: Noise) -> Decisions:
    """Correct, draw and account for a batch.

    `slots` int64 [B, width] of the candidates (-1 = empty column), `base` float32 [B, width] and `log_popularity`
    [B, width] (natural logarithm of the estimated P(item in a slate)); empty columns may hold any number.
    Raises ValueError naming the array when a shape is wrong or a candidate's number is not finite.
    """
    present = slots >= 0
    _check_shapes(config, slots=slots, base=base, log_popularity=log_popularity)
    _check_finite(present, base=base, log_popularity=log_popularity)
    correction = correct(config.beta, present, log_popularity)
    logits = np.where(present, base.astype(np.float32) + correction, np.float32(-np.inf))
    return Decisions(**vars(arrange(config, logits, noise)), correction=correction, logits=logits)


def redecide(config: PolicyConfig, logits: Floats32, partition: int, offsets: Ints) -> Choice:
    """The same choice again, from what was logged: logits float32 [B, width], -inf in empty columns, and the offsets.

    Columns must be as they were logged, empty ones included, for each has its own random number.
    """
    _check_shapes(config, logits=logits)
    return arrange(config, logits, noise(config, partition, offsets))


def correct(beta: float, present: NDArray[np.bool_], log_popularity: Floats) -> Floats32:
    """−β · (log-popularity − its mean over the row's candidates), float32 [B, C], 0 in empty columns."""
    known = np.where(present, log_popularity, 0.0)
    mean = known.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.where(present, -beta * (known - mean), 0.0).astype(np.float32)


def arrange(config: PolicyConfig, logits: Floats32, noise: Noise) -> Choice:
    """Draw the slates and state their probabilities."""
    k, temperature, epsilon = config.k, config.temperature, config.epsilon
    chosen, uniform_arm = mixture.sample(logits, noise.gumbel, noise.arm, k, temperature, epsilon)
    conditional, log_probability = mixture.chain(logits, chosen, temperature, epsilon)
    if not config.marginals:
        return Choice(uniform_arm, chosen, conditional, log_probability, None, None, None, None)
    unshown = _sample_unshown(logits, chosen, noise.unshown)
    columns = np.concatenate([chosen, unshown], axis=1)
    position, inclusion = mixture.marginals(logits, k, temperature, epsilon, columns)
    propensity = position[:, np.arange(k), np.arange(k)]
    return Choice(
        uniform_arm,
        chosen,
        conditional,
        log_probability,
        propensity,
        inclusion[:, :k],
        unshown,
        inclusion[:, k:],
    )


def _sample_unshown(logits: Floats32, chosen: Ints, uniforms: Floats) -> Ints:
    """Columns drawn uniformly without replacement from the candidates that are not shown, int64 [B, m]."""
    left = ~np.isneginf(logits)
    left[np.nonzero(chosen >= 0)[0], chosen[chosen >= 0]] = False
    count = left.sum(axis=1)
    ranks = distinct_ranks(uniforms, count)
    columns = np.append(np.nonzero(left)[1], -1)  # row after row; the last entry serves rank -1
    start = np.cumsum(count) - count
    return columns[np.where(ranks >= 0, start[:, None] + ranks, -1)]


def _check_shapes(config: PolicyConfig, **arrays: NDArray[np.generic]) -> None:
    """Every array must be [B, width], with the B of the first."""
    rows = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        if array.shape != (rows, config.width):
            raise ValueError(f"{name} has shape {array.shape}, expected ({rows}, {config.width})")


def _check_finite(present: NDArray[np.bool_], **arrays: NDArray[np.floating]) -> None:
    for name, array in arrays.items():
        bad = present & ~np.isfinite(array)
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            raise ValueError(f"{name} is {array[row, column]} at row {row}, column {column}, expected a finite number")
