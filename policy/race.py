"""The exponential race: with which probability each of the racers comes in first, second, … k-th.

Let racer i arrive at an exponential time of rate w_i; the order of arrival is Plackett-Luce. So i is at position j when
he arrives at t and exactly j - 1 others came before: an integral over t of his density times a Poisson-binomial
probability.

The integral is a trapezoid in y with t = exp(y - e^-y), which decays double-exponentially on the left (Takahasi & Mori
1974). The integrand is analytic, so the error falls exponentially in the step, and the range is set per row from a
bound on the arrival of the k-th: skewed rates get more nodes, not a larger error.

The Poisson-binomial is Π (1 + o_i z) · P(nobody), o_i = e^(w_i t) - 1 being the odds of having arrived. A few racers
are heavy and are multiplied in one by one. The many light ones come in together, by Newton's identities, from the sums
of the powers of their odds; and those sums, at all nodes, are one matrix product of the rates' Chebyshev moments with a
table that depends on nothing but the number of nodes. To leave a racer out: a heavy one by multiplying in all others
(by halving), a light one by dividing by 1 + o z, which is stable for small odds and for those alone.

Arrays only: a row is one race, a column one racer. Knows nothing of items or of where rates come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TAIL = 1e-11  # probability cut off at either end of the time axis
FIRST_NODE = -math.log(-math.log(TAIL) / 2)  # y at which t = exp(y - e^-y) is about √TAIL: by then nobody is second
LEAST_ABSENT, BLOCK = math.exp(-40.0), 16  # racers are added by blocks: e^(40 · 16) is within float64
FEW = 5  # racers that share one matrix product for their sums over nodes
LANES = 2048  # (race, node) pairs worked on at once: the arrays of a chunk then fit in a core's L2 cache
POWER, SLACK, DEGREE = 30.0, 0.7, 24
"""A racer is light if his hazard at the last node is at most POWER / (k - 1), and SLACK of what all that are behind the
first k - 1 have together, divided by k - 1: then dividing by his 1 + o z cancels nothing, as o^j is outweighed by
P(nobody of them has arrived). To such an extent the powers of his odds are polynomials of his rate, of DEGREE."""


def positions(weights: Floats, k: int, columns: Ints) -> Floats:
    """P(racer is j-th), float64 [B, m, k], of the racers that `columns` int64 [B, m] names (-1 = none, gives 0), no one
    twice a row. `weights` float64 [B, C] of all, 0 for who is not there."""
    found = np.zeros((*columns.shape, k))
    nodes = _nodes(weights, np.minimum((weights > 0).sum(axis=1), k), k)
    lightest = _lightest(k) / _times(k, int(nodes.max(initial=1)))[0][nodes - 1]
    rates = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    for rows in _chunks(nodes):  # rows with nobody there keep their zeros
        found[rows] = _race(rates[rows], columns[rows], k, nodes[rows], lightest[rows])
    found[columns < 0] = 0.0
    return found


def step(k: int) -> float:
    """Distance of two nodes in y, fitted for sums exact to 1e-10: the k-th arrival's density narrows as 1/√k."""
    return min(0.3, 0.88 / math.sqrt(k + 5))


def _nodes(weights: Floats, depth: Ints, k: int) -> Ints:
    """Number of nodes per row, so that the last one lies where all `depth` positions are filled, but for TAIL.

    Once the heaviest depth - 1 racers are gone, what is left arrives at rate `rest`; before, faster. So the last
    position is filled sooner than a Gamma(depth) of that rate, whose Chernoff bound gives the time. The unit of time
    is the reciprocal of the row's total weight. A row with nobody there has no nodes.
    """
    filled = np.flatnonzero(depth)
    tail_sums = np.cumsum(np.sort(weights[filled], axis=1), axis=1)[:, ::-1]
    rest = tail_sums[np.arange(len(filled)), depth[filled] - 1]
    quantile = np.array([n * _gamma_tail(n) for n in range(1, k + 1)])[depth[filled] - 1]
    last = np.log(quantile) + np.log(tail_sums[:, 0]) - np.log(rest)
    count = np.zeros(len(weights), np.int64)
    count[filled] = 2 * np.ceil((last - FIRST_NODE) / step(k) / 2) + 1
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


def _race(rates: Floats, columns: Ints, k: int, nodes: Ints, lightest: Floats) -> Floats:
    """Position probabilities [B, m, k] of the given columns. A lane is one node of one row: [B, N] of them."""
    time, weight = _times(k, int(nodes.max()))
    spacing = np.where(np.arange(len(time)) < nodes[:, None], weight, 0.0)
    order, wanted, heavy = _wanted(rates, columns, lightest)
    rows = np.arange(len(rates))[:, None]
    apart = np.take_along_axis(columns, order[:, :heavy], axis=1)
    row, at = np.nonzero(apart >= 0)
    rates[row, apart[row, at]] = 0.0

    absent = _absent(wanted, time)
    density = wanted[:, :, None] * spacing
    density *= absent
    odds = _odds(absent)
    counts = _unnamed(rates, k, time, nodes, lightest)
    result = np.zeros((*columns.shape, k))
    everybody, few = counts, slice(0)
    for few, everybody in _all_but_a_few(counts, odds[:heavy], absent[:heavy]):
        _integrate(result[:, few], everybody, _beside(density[few], odds[few], absent[few], k))
    if heavy < len(wanted):
        _arrive(everybody, odds[few], absent[few])
        _integrate(result[:, heavy:], everybody, _divided(density[heavy:], odds[heavy:], absent[heavy:], k))
    result[:, :, 0] = wanted.T
    found = np.empty_like(result)
    found[rows, order] = result
    return found


def _absent(rates: Floats, time: Floats) -> Floats:
    """P(absent) [m, B, N] of racers with rates [m, B] at N times."""
    hazards = rates[:, :, None] * -time
    return np.exp(hazards, out=hazards)


def _odds(absent: Floats) -> Floats:
    """Odds of having arrived, of P(absent), which is raised to LEAST_ABSENT."""
    np.maximum(absent, LEAST_ABSENT, out=absent)
    odds = 1 / absent
    odds -= 1.0
    return odds


@lru_cache(256)
def _times(k: int, size: int) -> tuple[Floats, Floats]:
    """The nodes, in time, and the weight of each in an integral, [size] both."""
    y = FIRST_NODE + step(k) * np.arange(size)
    time = np.exp(y - np.exp(-y))
    return time, step(k) * time * (1 + np.exp(-y))


def _wanted(rates: Floats, columns: Ints, lightest: Floats) -> tuple[Ints, Floats, int]:
    """The order [B, m] of the wanted by rate, the highest first, their rates [m, B], 0 for none, and how many of them,
    in the row with the most, are heavy."""
    own = np.where(columns >= 0, np.take_along_axis(rates, np.maximum(columns, 0), axis=1), 0.0)
    order = np.argsort(-own, axis=1)
    own = np.ascontiguousarray(np.take_along_axis(own, order, axis=1).T)
    return order, own, int((own > lightest).any(axis=1).sum())


@cache
def _lightest(k: int) -> float:
    """The hazard, at the last node, up to which a racer is light."""
    return min(POWER, SLACK * k * _gamma_tail(k)) / max(k - 1, 1)


def _unnamed(rates: Floats, k: int, time: Floats, nodes: Ints, lightest: Floats) -> Floats:
    """The Poisson-binomial [k, B, N] of racers with `rates` [B, C], changed: 0 where a racer is not there."""
    heavy = rates > lightest[:, None]
    most = int(heavy.sum(axis=1).max(initial=0))
    counts = _together(np.where(heavy, 0.0, rates), k, time, nodes, lightest)
    if most:
        apart = np.where(heavy, rates, 0.0)
        apart.partition(apart.shape[1] - most, axis=1)
        absent = _absent(np.ascontiguousarray(apart[:, -most:].T), time)
        _arrive(counts, _odds(absent), absent)
    return counts


def _together(rates: Floats, k: int, time: Floats, nodes: Ints, lightest: Floats) -> Floats:
    """The Poisson-binomial [k, B, N] of light racers, `rates` [B, C]: Newton's identities, P(nobody) multiplied in."""
    rows, size = len(rates), len(time)
    counts = np.empty((k, rows, size))
    np.exp(-rates.sum(axis=1)[:, None] * time, out=counts[0])
    if k == 1:
        return counts
    moments = _moments(rates / lightest[:, None])
    powers = np.zeros((rows, k - 1, size))
    starts = [0, *(np.flatnonzero(np.diff(nodes)) + 1), rows]
    for start, end in pairwise(starts):
        count = int(nodes[start])
        found = moments[start:end] @ _table(k, count)
        powers[start:end, :, :count] = found.reshape(-1, k - 1, count)
    for n in range(1, k):
        np.einsum("bjn,jbn->bn", powers[:, :n], counts[n - 1 :: -1], out=counts[n])
        counts[n] *= 1 / n
    return counts


def _moments(x: Floats) -> Floats:
    """Σ T_d(2x - 1) over the columns of x [B, C] in 0 to 1, for each degree d, float64 [B, DEGREE + 1].

    Chebyshev polynomials up to half the degree give the others as T_a · T_b = (T_(a+b) + T_|a-b|) / 2.
    """
    before, last, following = np.ones_like(x), 2 * x - 1, np.empty_like(x)
    twice = 2 * last
    sums = np.empty((len(x), DEGREE + 1))
    sums[:, 0], sums[:, 1] = x.shape[1], last.sum(axis=1)
    for degree in range(2, DEGREE + 1):
        np.multiply(twice, last, out=following)
        following -= before
        before, last, following = last, following, before
        last.sum(axis=1, out=sums[:, degree])
    return sums


@lru_cache(256)
def _table(k: int, size: int) -> Floats:
    """±(e^(xα) - 1)^j for each node's α and each j below k, in Chebyshev polynomials of x, [degrees, (k - 1) · size].

    The sign is that of Newton's identities.
    """
    time, _ = _times(k, size)
    angle = (np.arange(DEGREE + 1) + 0.5) * np.pi / (DEGREE + 1)
    at = (np.cos(angle) + 1) / 2
    powers = np.arange(1, k)
    values = np.expm1(_lightest(k) * at[:, None, None] * (time / time[-1])) ** powers[None, :, None]
    values *= np.where(powers % 2, 1.0, -1.0)[:, None]
    degrees = np.arange(DEGREE + 1)
    weights = np.cos(degrees[:, None] * angle) * np.where(degrees, 2.0, 1.0)[:, None] / (DEGREE + 1)
    table = weights @ values.reshape(DEGREE + 1, -1)
    table[0] -= table[::2].sum(axis=0) - table[1::2].sum(axis=0)  # exactly 0 for who is not there
    return np.asarray(table)


def _arrive(counts: Floats, odds: Floats, absent: Floats) -> None:
    """Add racers, of odds [m, B, N], to a Poisson-binomial in place: counts [k, B, N] of arrivals.

    They are multiplied in by their odds, one pass less than by probabilities; P(absent) is made up for after each
    block, before the odds can overflow.
    """
    scratch = np.empty_like(counts[1:])
    for start in range(0, len(odds), BLOCK):
        for one in odds[start : start + BLOCK]:
            np.multiply(counts[:-1], one, out=scratch)
            counts[1:] += scratch
        counts *= absent[start : start + BLOCK].prod(axis=0)


def _all_but_a_few(counts: Floats, odds: Floats, absent: Floats, first: int = 0) -> Iterator[tuple[slice, Floats]]:
    """For each few of m racers: which they are, counted from `first`, and `counts` with all the others added.

    By halving, with products only: taking a heavy factor out of the whole by division would cancel.
    """
    if 0 < len(odds) <= FEW:
        yield slice(first, first + len(odds)), counts
    elif len(odds):
        middle = len(odds) // 2
        half, other = slice(middle), slice(middle, None)
        for mine, rest, number in ((half, other, first), (other, half, first + middle)):
            outside = counts.copy()
            _arrive(outside, odds[rest], absent[rest])
            yield from _all_but_a_few(outside, odds[mine], absent[mine], number)


def _beside(density: Floats, odds: Floats, absent: Floats, k: int) -> Floats:
    """Density of each of f racers times the Poisson-binomial of the f - 1 beside him, [min(f, k), f, B, N]."""
    f = len(odds)
    beside = np.empty((f, *odds.shape))  # number of arrivals, racer
    ring, nobody = np.concatenate([odds, odds]), np.concatenate([absent, absent])
    np.multiply(density, nobody[1 : f + 1], out=beside[0]) if f > 1 else np.copyto(beside[0], density)
    for turn in range(2, f):
        beside[0] *= nobody[turn : turn + f]
    for turn in range(1, f):
        other = ring[turn : turn + f]
        np.multiply(beside[turn - 1], other, out=beside[turn])
        for number in range(turn - 1, 0, -1):
            beside[number] += beside[number - 1] * other
    return beside[:k]


def _divided(density: Floats, odds: Floats, absent: Floats, k: int) -> Floats:
    """Density of each of f light racers, over the probability of his own 1 + o z, as a series [k, f, B, N]."""
    series = np.empty((k, *odds.shape))
    np.divide(density, absent, out=series[0])
    odds = -odds
    for j in range(1, k):
        np.multiply(series[j - 1], odds, out=series[j])
    return series


def _integrate(result: Floats, counts: Floats, beside: Floats) -> None:
    """Integrate over the nodes: result [B, f, k] of f racers, from `beside` [c, f, B, N], which is his density with
    what he has beside him, and the `counts` of all the others, [k, B, N]. One matrix product a row does all sums."""
    c, f, k = len(beside), beside.shape[1], len(counts)
    summed = beside.reshape(c * f, *counts.shape[1:]).swapaxes(0, 1) @ counts.transpose(1, 2, 0)
    for number in range(c):
        result[:, :, number:] += summed[:, number * f : (number + 1) * f, : k - number]
