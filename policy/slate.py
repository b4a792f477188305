"""Which candidates are shown, in which order, and with which probability.

Per event, in this order: correct the base logits for popularity, add what else was decided beforehand, draw a slate
from the Plackett-Luce / uniform mixture around what is pinned, and state its probabilities. A pure function of the
numbers given, so that what was logged can be drawn again byte for byte. Knows nothing of Kafka, of users or of how
logits are computed.

Four quantities are kept apart: the correction and the logits (what was wanted), the chain of conditional
probabilities (of this ordered slate), the propensity (of an item at its position), the inclusion (of an item in the
slate).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from policy import mixture, plackett_luce, swaps
from policy.pins import Pins
from policy.plackett_luce import Floats, Ints, Temperature
from policy.randomness import KEY_LIMIT, WORDS_PER_BLOCK, Words, event_keys, item_uniforms, uniforms

Floats32 = NDArray[np.float32]

GUMBEL, UNSHOWN, SWAP = 0, 1, 2
"""What a number is for: a candidate's place in the slate, the sample of what was not shown, exchanged positions."""

TWO_NUMBERS = np.arange(2, dtype=np.uint64)[None, :]
"""Of an event, from its key for SWAP, as if of items 0 and 1: whether two places change, and which."""


@dataclass(frozen=True)
class PolicyConfig:
    """How slates are drawn. Temperature, epsilon and beta are starting points, to be tuned on randomised traffic.

    `candidates` are retrieved and `injected` drawn from the rest of the catalogue: width = candidates + injected. Of
    the retrieved ones at most `neighbours` are there for going with what the user did last, the others for being near.
    `marginals`: also compute propensities and inclusions; it changes no choice. `unshown_sample`: how many
    candidates that were not shown get their inclusion computed too. `swaps`: in which share of slates two neighbours
    change places after the draw, to learn how positions are looked at.
    """

    k: int = 10
    candidates: int = 100
    neighbours: int = 50
    injected: int = 2
    temperature: float = 0.35
    epsilon: float = 0.02
    beta: float = 0.1
    seed: int = 0
    marginals: bool = True
    unshown_sample: int = 4
    swaps: float = 0.0

    def __post_init__(self) -> None:
        limits = {
            "k": (1 <= self.k <= self.candidates, f"1 to candidates ({self.candidates})"),
            "neighbours": (self.neighbours >= 0, "at least 0"),
            "injected": (self.injected >= 0, "at least 0"),
            "temperature": (self.temperature > 0 and math.isfinite(self.temperature), "a positive number"),
            "epsilon": (0 <= self.epsilon <= 1, "0 to 1"),
            "beta": (self.beta >= 0 and math.isfinite(self.beta), "a finite number, at least 0"),
            "seed": (0 <= self.seed < KEY_LIMIT, "0 to 2**64 - 1"),
            "swaps": (0 <= self.swaps <= 1, "0 to 1"),
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
    """The randomness of a batch, by what it decides: uniform numbers, or keys that give each item its own."""

    arm: Floats  # [B]
    injection: Floats  # [B, injected]
    gumbel: Words  # [B] keys
    unshown: Words  # [B] keys
    swap: Floats  # [B, 2]


@dataclass(frozen=True)
class Choice:
    """What was chosen and with which probability. Four may be None: unless config.marginals."""

    uniform_arm: NDArray[np.bool_]  # [B]: the slate came from the uniform arm
    chosen: Ints  # [B, k] columns of the candidates, -1 beyond what is available
    conditional: Floats  # [B, k] P(this item here | those before it), 1 where chosen is -1
    log_probability: Floats  # [B] of the ordered slate
    propensity: Floats | None  # [B, k] P(this item at this position), 0 where chosen is -1
    inclusion: Floats | None  # [B, k] P(this item in the slate), 0 where chosen is -1
    unshown: Ints | None  # [B, unshown_sample] columns drawn uniformly from those not shown, -1 = none
    unshown_inclusion: Floats | None  # [B, unshown_sample] P(that item in the slate)
    pinned: NDArray[np.bool_]  # [B, k]: not drawn; it stands there for certain
    swapped: Ints  # [B, 2] the positions that changed places after the draw, -1: none did


@dataclass(frozen=True)
class Decisions(Choice):
    """A choice and the logits it was drawn from: base + correction, then every adjustment in the order of their names,
    added one by one in float32, exactly."""

    correction: Floats32  # [B, C], 0 in empty columns
    adjustments: Mapping[str, Floats32]  # by name, [B, C], 0 in empty columns
    temperature: Floats  # [B] that the rows were drawn with
    logits: Floats32  # [B, C], -inf in empty columns


def draws(config: PolicyConfig) -> int:
    """How many numbers of the Philox stream an event owns: whole blocks, for the arm and the injected candidates."""
    return -(-(1 + config.injected) // WORDS_PER_BLOCK) * WORDS_PER_BLOCK


def noise(config: PolicyConfig, partition: int, offsets: Ints) -> Noise:
    """The randomness of the events at `offsets` (int64 [B], ascending) of a partition."""
    drawn = uniforms(config.seed, partition, offsets, draws(config))
    gumbel, unshown, swap = (event_keys(config.seed, partition, offsets, use) for use in (GUMBEL, UNSHOWN, SWAP))
    numbers = item_uniforms(swap, np.repeat(TWO_NUMBERS, len(swap), axis=0))
    return Noise(drawn[:, 0], drawn[:, 1 : 1 + config.injected], gumbel, unshown, numbers)


def decide(
    config: PolicyConfig,
    slots: Ints,
    items: Words,
    base: Floats32,
    log_popularity: Floats,
    noise: Noise,
    *,
    adjustments: Mapping[str, Floats32] = MappingProxyType({}),
    temperature: Floats | None = None,
    pinned: Ints | None = None,
) -> Decisions:
    """Correct, adjust, draw and account for a batch.

    `slots` int64 [B, width] of the candidates (-1 = empty column), `items` uint64 [B, width] their hashes, `base`
    float32 [B, width] and `log_popularity` [B, width] (natural logarithm of the estimated P(item in a slate)); empty
    columns may hold any number. `adjustments` by name, as `base`: what is added to logits. `temperature` float64 [B],
    one a row; None: the config's. `pinned` int64 [B, k]: the column that stands at each position for certain, -1 where
    it is drawn; no column twice. Raises ValueError naming the array when a shape is wrong or a candidate's number is
    not finite, or for a pinned column without a candidate.
    """
    present = slots >= 0
    _check_shapes(config, slots=slots, items=items, base=base, log_popularity=log_popularity, **adjustments)
    _check_finite(present, base=base, log_popularity=log_popularity, **adjustments)
    correction = correct(config.beta, present, log_popularity)
    added = {name: np.where(present, adjustments[name], 0).astype(np.float32) for name in sorted(adjustments)}
    logits = np.where(present, total(base.astype(np.float32), correction, added), np.float32(-np.inf))
    if temperature is None:
        temperature = np.full(len(slots), config.temperature)
    choice = arrange(config, logits, items, noise, temperature, pinned)
    return Decisions(**vars(choice), correction=correction, adjustments=added, temperature=temperature, logits=logits)


def total(base: Floats32, correction: Floats32, adjustments: Mapping[str, Floats32]) -> Floats32:
    """The logits of candidates: base + correction, then the adjustments one by one in the order of their names."""
    return reduce(np.add, (adjustments[name] for name in sorted(adjustments)), base + correction)


def redecide(
    config: PolicyConfig,
    logits: Floats32,
    items: Words,
    partition: int,
    offsets: Ints,
    *,
    temperature: Floats | None = None,
    pinned: Ints | None = None,
) -> Choice:
    """The same choice again, from what was logged: logits float32 [B, width], -inf in empty columns, the hashes of
    the candidates uint64 [B, width], and the offsets. In whichever columns the candidates stand. `temperature` and
    `pinned` as in `decide`."""
    _check_shapes(config, logits=logits, items=items)
    return arrange(config, logits, items, noise(config, partition, offsets), temperature, pinned)


def margin(
    config: PolicyConfig,
    logits: Floats32,
    items: Words,
    partition: int,
    offsets: Ints,
    *,
    temperature: Floats | None = None,
    pinned: Ints | None = None,
) -> Floats:
    """The distance of the two perturbed scores that were nearest to changing the slate, float64 [B], in logits.

    Arguments as in `redecide`. In the uniform arm scores count for nothing: inf.
    """
    random, pins = noise(config, partition, offsets), Pins.of(pinned, logits, config.k)
    gumbel, heat = item_uniforms(random.gumbel, items), config.temperature if temperature is None else temperature
    margins = plackett_luce.margin(pins.others(logits), gumbel, config.k, heat)
    return np.where(random.arm < config.epsilon, np.inf, margins)


def correct(beta: float, present: NDArray[np.bool_], log_popularity: Floats) -> Floats32:
    """−β · (log-popularity − its mean over the row's candidates), float32 [B, C], 0 in empty columns."""
    known = np.where(present, log_popularity, 0.0)
    mean = known.sum(axis=1, keepdims=True) / np.maximum(present.sum(axis=1, keepdims=True), 1)
    return np.where(present, -beta * (known - mean), 0.0).astype(np.float32)


def arrange(
    config: PolicyConfig,
    logits: Floats32,
    items: Words,
    noise: Noise,
    temperature: Floats | None = None,
    pinned: Ints | None = None,
) -> Choice:
    """Draw the slates and state their probabilities. `temperature` and `pinned` as in `decide`.

    What is pinned takes part in no draw: the other positions are filled, from the first on, by a draw among the other
    candidates. A draw's probabilities do not depend on how many more are drawn after it, so that those of the n-th one
    are those of the n-th position that is not pinned.
    """
    k, epsilon, heat = config.k, config.epsilon, config.temperature if temperature is None else temperature
    pins = Pins.of(pinned, logits, k)
    others = pins.others(logits)
    gumbel = item_uniforms(noise.gumbel, items)
    drawn, uniform_arm = mixture.sample(others, gumbel, noise.arm, k, heat, epsilon)
    drawn = pins.room(drawn)
    place = swaps.places(noise.swap, config.swaps, drawn)
    drawn = swaps.exchanged(drawn, place)
    conditional, log_probability = mixture.chain(others, drawn, heat, epsilon, config.swaps)
    sources = pins.sources(drawn)
    chosen, conditional = pins.chosen(sources, drawn), pins.placed(sources, conditional, 1.0)
    fixed, swapped = sources >= k, _positions(sources, place)
    if not config.marginals:
        return Choice(uniform_arm, chosen, conditional, log_probability, None, None, None, None, fixed, swapped)
    unshown = _sample_unshown(logits, chosen, item_uniforms(noise.unshown, items), config.unshown_sample)
    columns = np.concatenate([drawn, unshown], axis=1)
    position, inclusion = mixture.marginals(others, k, heat, epsilon, columns)
    if config.swaps:
        position = swaps.spread(position, drawn, config.swaps)
    inclusion = pins.inclusion(position, inclusion)
    return Choice(
        uniform_arm,
        chosen,
        conditional,
        log_probability,
        pins.placed(sources, position[:, np.arange(k), np.arange(k)], 1.0),
        pins.placed(sources, inclusion[:, :k], 1.0),
        unshown,
        inclusion[:, k:],
        fixed,
        swapped,
    )


def published_marginals(
    logits: NDArray[np.floating],
    chosen: Ints,
    fixed: NDArray[np.bool_],
    temperature: Temperature,
    epsilon: float,
    exchanged: float = 0.0,
) -> tuple[Floats, Floats]:
    """P(each candidate at each position) [B, C, k] and in the slate at all [B, C], of slates as they were logged.

    For who has a decision and not its marginals. `logits` [B, C]; `chosen` [B, k] columns in order of position, -1
    beyond what there is; `fixed` [B, k]: what is pinned; `exchanged`: the policy's `swaps`. Σ over candidates is 1
    at every position.
    """
    k = chosen.shape[1]
    pins = Pins.of(np.where(fixed, chosen, -1), logits, k)
    free = ~fixed & (chosen >= 0)
    nth = np.where(free, np.cumsum(free, axis=1) - 1, 0)
    drawn, _ = mixture.marginals(pins.others(logits), k, temperature, epsilon)
    if exchanged:
        there = np.where(np.arange(k) < free.sum(axis=1, keepdims=True), 0, -1)
        drawn = swaps.spread(drawn, there, exchanged)
    position = np.where(free[:, None, :], np.take_along_axis(drawn, nth[:, None, :], axis=2), 0.0)
    row, place = np.nonzero(fixed)
    position[row, chosen[row, place], place] = 1.0
    return position, np.minimum(position.sum(axis=2), 1.0)


def _positions(sources: Ints, place: Ints) -> Ints:
    """The two positions, [B, 2], at which what was drawn at `place` [B] and after it stands, -1 where place is."""
    found = np.full((len(place), 2), -1, np.int64)
    row = np.flatnonzero(place >= 0)
    for at in range(2):
        found[row, at] = (sources[row] == place[row, None] + at).argmax(axis=1)
    return found


def _sample_unshown(logits: Floats32, chosen: Ints, uniforms: Floats, size: int) -> Ints:
    """Columns of a uniform sample, without replacement, of the candidates that are not shown, int64 [B, size].

    They are those with the smallest numbers, so that what is drawn does not depend on the order of the columns.
    """
    keys = np.where(np.isneginf(logits), np.inf, uniforms)
    keys[np.nonzero(chosen >= 0)[0], chosen[chosen >= 0]] = np.inf
    columns = np.full((len(logits), size), -1, dtype=np.int64)
    for at in range(min(size, keys.shape[1])):
        least = keys.argmin(axis=1)
        row = np.arange(len(keys))
        columns[:, at] = np.where(np.isinf(keys[row, least]), -1, least)
        keys[row, least] = np.inf
    return columns


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
