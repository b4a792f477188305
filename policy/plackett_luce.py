"""Plackett-Luce slates: draw them, and say with which probability each item is shown.

A slate of k is drawn without replacement, each position by a softmax over what is left (Plackett 1975, Luce 1959).
Arrays only: a row is one slate, a column one candidate, a logit of -inf means "not available". Knows nothing of
users, items or of where logits come from.

Weights are exp(logit / temperature) relative to the row's best; a temperature is one number for all rows, or float64
[B], one for each. A weight below e^-600 of the best counts as e^-600, in sampling and in every
probability alike, so that nothing underflows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Temperature = float | Floats

LOWEST_LOG_WEIGHT = -600.0
TAIL = 1e-11  # probability cut off at either end of the time axis
FIRST_NODE = -math.log(-math.log(TAIL))  # y at which t = exp(y - e^-y) is about TAIL
LARGEST_HAZARD, BLOCK = 40.0, 16  # items are added by blocks: e^(40 · 16) is within float64
FEW = 4  # items that share one matrix product for their sums over nodes
LANES = 3072  # (slate, node) pairs worked on at once: the arrays of a chunk then fit in a core's L2 cache


def log_weights(logits: NDArray[np.floating], temperature: Temperature) -> Floats:
    """logit / temperature, shifted so that each row's best is 0; float64 [B, C], -inf where not available.

    Raises ValueError for a temperature that is not positive, or a logit that is NaN or +inf.
    """
    if not (np.isfinite(temperature) & (np.asarray(temperature) > 0)).all():
        raise ValueError(f"temperature is {temperature}, expected a positive number")
    scaled = logits.astype(np.float64) / np.atleast_1d(temperature)[:, None]
    best = scaled.max(axis=1, keepdims=True, initial=-np.inf)
    if not (best < np.inf).all():
        raise ValueError("logits hold NaN or +inf, expected finite numbers, or -inf for 'not available'")
    shifted = scaled - np.where(np.isneginf(best), 0.0, best)
    return np.where(np.isneginf(scaled), -np.inf, np.maximum(shifted, LOWEST_LOG_WEIGHT))


def sample(logits: NDArray[np.floating], gumbel_uniforms: Floats, k: int, temperature: Temperature) -> Ints:
    """Draw a slate for each row by the Gumbel top-k trick (Kool et al. 2019): columns, int64 [B, k].

    `logits` [B, C]; `gumbel_uniforms` float64 [B, C] in (0, 1). Positions beyond what is available are -1.
    """
    _check_k(k)
    weights, keys = _perturbed(logits, gumbel_uniforms, temperature)
    chosen = np.full((len(weights), k), -1, dtype=np.int64)
    width = min(k, weights.shape[1])
    order = np.argsort(-keys, axis=1)[:, :width]
    available = np.isfinite(weights).sum(axis=1)
    chosen[:, :width] = np.where(np.arange(width) < available[:, None], order, -1)
    return chosen


def margin(logits: NDArray[np.floating], gumbel_uniforms: Floats, k: int, temperature: Temperature) -> Floats:
    """How far apart the two perturbed scores are that were nearest to changing the slate, float64 [B], in logits.

    Arguments as in `sample`. Logits that differ by less than half of it give the same slate. inf where nothing
    could change places.
    """
    _check_k(k)
    keys = np.sort(_perturbed(logits, gumbel_uniforms, temperature)[1], axis=1)[:, ::-1]
    with np.errstate(invalid="ignore"):
        gaps = keys[:, :-1] - keys[:, 1:]
    gaps = np.where(np.isnan(gaps), np.inf, gaps)[:, :k]
    return np.asarray(temperature * gaps.min(axis=1, initial=np.inf))


def _perturbed(
    logits: NDArray[np.floating], gumbel_uniforms: Floats, temperature: Temperature
) -> tuple[Floats, Floats]:
    """Log-weights, and the same with their Gumbel noise, [B, C] both."""
    weights = log_weights(logits, temperature)
    return weights, weights - np.log(-np.log(gumbel_uniforms))


def log_chain(logits: NDArray[np.floating], chosen: Ints, temperature: Temperature) -> Floats:
    """Logarithm of the probability of each chosen item given those before it; float64 [B, k], 0 where `chosen` is -1.

    `chosen` int64 [B, k]: columns, in the order shown. Their sum is the log-probability of the ordered slate.
    Raises ValueError when a chosen column is not available or appears twice.
    """
    log_weight = log_weights(logits, temperature)
    rows = np.arange(len(chosen))[:, None]
    shown = chosen >= 0
    picked = np.where(shown, log_weight[rows, chosen], 0.0)
    if not np.isfinite(picked).all():
        raise ValueError("chosen names a column that is not available")
    left = np.exp(log_weight)
    left[np.nonzero(shown)[0], chosen[shown]] = 0.0
    if int((left > 0).sum()) + int(shown.sum()) != int(np.isfinite(log_weight).sum()):
        raise ValueError("chosen names a column twice")
    # Summed from the last position back, so that no denominator comes from a subtraction.
    own = np.where(shown, np.exp(picked), 0.0)
    remaining = left.sum(axis=1, keepdims=True) + np.cumsum(own[:, ::-1], axis=1)[:, ::-1]
    return np.where(shown, picked - np.log(np.where(shown, remaining, 1.0)), 0.0)


def chain(logits: NDArray[np.floating], chosen: Ints, temperature: Temperature) -> Floats:
    """Probability of each chosen item given those before it; float64 [B, k], 1 where `chosen` is -1."""
    return np.exp(log_chain(logits, chosen, temperature))


def marginals(
    logits: NDArray[np.floating], k: int, temperature: Temperature, columns: Ints | None = None
) -> tuple[Floats, Floats]:
    """Probability of each item at each position, and in the slate at all.

    `logits` [B, C]. `columns` int64 [B, m] picks distinct candidates per row (-1 = none, gives 0); left out, all C.
    Returns (position float64 [B, m, k], inclusion float64 [B, m]); inclusion is the sum over positions.

    Method. Let item i arrive at an exponential time of rate w_i; the order of arrival is Plackett-Luce. So i is shown
    at position j when it arrives at t and exactly j - 1 others came before: an integral over t of its density
    times a Poisson-binomial probability. The integral is a trapezoid in y with t = exp(y - e^-y), which decays
    double-exponentially on the left (Takahasi & Mori 1974). The integrand is analytic, so the error falls
    exponentially in the step, and the range is set per row from a bound on the arrival of the k-th item:
    skewed weights get more nodes, not a larger error. The Poisson-binomial leaves each item out by products alone.
    Measured against enumeration and against the sums (1 at every position): below 1e-9 for k up to 50.
    """
    _check_k(k)
    weights = np.exp(log_weights(logits, temperature))
    if columns is None:
        columns = np.broadcast_to(np.arange(weights.shape[1]), weights.shape)
    position = np.zeros((*columns.shape, k))
    depth = np.minimum((weights > 0).sum(axis=1), k)
    nodes = _nodes(weights, depth, k)
    for rows in _chunks(nodes):  # rows with nothing available keep their zeros
        position[rows] = _race(weights[rows], columns[rows], k, nodes[rows])
    position[columns < 0] = 0.0
    return position, position.sum(axis=2)


def step(k: int) -> float:
    """Distance of two nodes in y, fitted for sums exact to 1e-10: the k-th arrival's density narrows as 1/√k."""
    return min(0.3, 0.85 / math.sqrt(k + 5))


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")


def _nodes(weights: Floats, depth: Ints, k: int) -> Ints:
    """Number of nodes per row, so that the last one lies where all `depth` positions are filled, but for TAIL.

    Once the heaviest depth - 1 items are gone, what is left arrives at rate `rest`; before, faster. So the last
    position is filled sooner than a Gamma(depth) of that rate, whose Chernoff bound gives the time. The unit of time
    is the reciprocal of the row's total weight. A row with nothing available has no nodes.
    """
    filled = np.flatnonzero(depth)
    tail_sums = np.cumsum(np.sort(weights[filled], axis=1), axis=1)[:, ::-1]
    rest = tail_sums[np.arange(len(filled)), depth[filled] - 1]
    quantile = np.array([n * _gamma_tail(n) for n in range(1, k + 1)])[depth[filled] - 1]
    last = np.log(quantile) + np.log(tail_sums[:, 0]) - np.log(rest)
    count = np.zeros(len(weights), np.int64)
    count[filled] = np.ceil((last - FIRST_NODE) / step(k)) + 1
    return count


@cache
def _gamma_tail(shape: int) -> float:
    """a such that a Gamma(shape) variable exceeds shape · a with probability below TAIL (Chernoff)."""
    a = 2.0
    for _ in range(60):  # a contraction: the error shrinks at least by half each time
        a = 1 + math.log(a) - math.log(TAIL) / shape
    return a


def _chunks(nodes: Ints) -> Iterator[Ints]:
    """Rows that have nodes, in chunks of about LANES nodes, rows of like number together."""
    order = np.argsort(nodes, kind="stable")
    order = order[nodes[order] > 0]
    starts = np.flatnonzero(np.diff(np.cumsum(nodes[order]) // LANES, prepend=-1))
    yield from np.split(order, starts)[1:]


def _race(weights: Floats, columns: Ints, k: int, nodes: Ints) -> Floats:
    """Position probabilities [B, m, k] of the given columns. A lane is one node of one row: [B, N] of them."""
    wanted, others = _rates(weights, columns)
    node = np.arange(nodes.max())
    y = FIRST_NODE + step(k) * node
    time = np.exp(y - np.exp(-y))
    spacing = np.where(node < nodes[:, None], step(k) * time * (1 + np.exp(-y)), 0.0)

    counts = np.zeros((k, *spacing.shape))
    counts[0] = 1.0
    for start in range(0, len(others), BLOCK):
        _arrive(counts, _hazards(others[start : start + BLOCK], time))
    hazards = _hazards(wanted, time)
    density = wanted[:, :, None] * np.exp(-wanted[:, :, None] * time) * spacing
    result = np.zeros((*columns.shape, k))
    for few, outside in _all_but_a_few(counts, hazards):
        _integrate(result[:, few], outside, density[few], hazards[few])
    return result


def _rates(weights: Floats, columns: Ints) -> tuple[Floats, Floats]:
    """Rates of the wanted columns [m, B] (0 for -1) and, in ascending order, of the others [up to C, B] (or 0)."""
    rates = weights / weights.sum(axis=1, keepdims=True)
    wanted = np.where(columns >= 0, np.take_along_axis(rates, np.maximum(columns, 0), axis=1), 0.0)
    rates[np.nonzero(columns >= 0)[0], columns[columns >= 0]] = 0.0
    rates.sort(axis=1)  # what is not there comes first, and is left out
    return np.ascontiguousarray(wanted.T), np.ascontiguousarray(rates.T[rates.any(axis=0)])


def _hazards(rates: Floats, time: Floats) -> Floats:
    """Hazards [m, B, N] of items with rates [m, B] at N times; P(absent) is e^-hazard, at least e^-40."""
    hazards = rates[:, :, None] * time
    if hazards.max(initial=0.0) > LARGEST_HAZARD:
        np.minimum(hazards, LARGEST_HAZARD, out=hazards)
    return hazards


def _arrive(counts: Floats, hazards: Floats) -> None:
    """Add at most BLOCK items, of hazards [m, B, N], to a Poisson-binomial in place: counts [k, B, N] of arrivals.

    Items are multiplied in by their odds, one pass less than by probabilities; P(absent) is made up for at the end,
    before the odds can overflow.
    """
    scratch = np.empty_like(counts[1:])
    for odds in np.expm1(hazards):
        counts[1:] += np.multiply(counts[:-1], odds, out=scratch)
    counts *= np.exp(-hazards.sum(axis=0))


def _all_but_a_few(counts: Floats, hazards: Floats, first: int = 0) -> Iterator[tuple[slice, Floats]]:
    """For each few of m items: which they are, counted from `first`, and `counts` with all the others added.

    By halving, with products only: taking a factor out of the whole by division would cancel.
    """
    if 0 < len(hazards) <= FEW:
        yield slice(first, first + len(hazards)), counts
    elif len(hazards):
        middle = len(hazards) // 2
        for mine, rest, number in (
            (hazards[:middle], hazards[middle:], first),
            (hazards[middle:], hazards[:middle], first + middle),
        ):
            outside = counts.copy()
            for start in range(0, len(rest), BLOCK):
                _arrive(outside, rest[start : start + BLOCK])
            yield from _all_but_a_few(outside, mine, number)


def _integrate(result: Floats, counts: Floats, density: Floats, hazards: Floats) -> None:
    """Integrate over the nodes: result [B, f, k] of f items, from the `counts` of all the others, [k, B, N].

    The few others that an item has beside it make a small Poisson-binomial of their own; one matrix product a row
    then does all sums over nodes.
    """
    f, k = len(hazards), len(counts)
    beside = np.zeros((f, *hazards.shape))  # number of arrivals, item
    beside[0] = density * np.exp(hazards - hazards.sum(axis=0))
    odds = np.expm1(hazards)
    for turn in range(1, f):
        beside[1:] += beside[:-1] * np.roll(odds, turn, axis=0)
    summed = beside.reshape(f * f, *counts.shape[1:]).swapaxes(0, 1) @ counts.transpose(1, 2, 0)
    for number in range(min(f, k)):
        result[:, :, number:] += summed[:, number * f : (number + 1) * f, : k - number]
