"""Exchanged positions: in a small share of slates two neighbours change places after the draw, so that clicks tell how
positions are looked at (FairPairs: Radlinski and Joachims, AAAI 2006), and what that does to every probability.

The pair is drawn uniformly among the n - 1 neighbours of the n that were drawn, by the event's own randomness. What is
published can then have come about without an exchange, or from n - 1 other draws; the sums over those are in closed
form, as neighbours that change places change one denominator of a Plackett-Luce chain. A slate of the uniform arm is as
likely in any order. Arrays only; knows nothing of clicks or of why positions are exchanged.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy.plackett_luce import Floats, Ints, Temperature, log_weights


def places(uniforms: Floats, share: float, drawn: Ints) -> Ints:
    """The place, from 0, that changes with the next one, int64 [B], -1 for none; `uniforms` float64 [B, 2] in (0, 1),
    `drawn` [B, k], -1 beyond what there is."""
    pairs = (drawn >= 0).sum(axis=1) - 1
    place = (uniforms[:, 1] * pairs).astype(np.int64)
    return np.where((uniforms[:, 0] < share) & (pairs > 0), place, -1)


def exchanged(drawn: Ints, place: Ints) -> Ints:
    """What is published at each place, int64 [B, k]."""
    found = drawn.copy()
    row = np.flatnonzero(place >= 0)
    found[row, place[row]], found[row, place[row] + 1] = drawn[row, place[row] + 1], drawn[row, place[row]]
    return found


def log_factors(logits: NDArray[np.floating], chosen: Ints, temperature: Temperature, share: float) -> Floats:
    """By how much a possible exchange changes the probability of each prefix that is published, float64 [B, k].

    The logarithm of P(the first j published are those) / P(the first j drawn are those) under Plackett-Luce; `chosen`
    [B, k] as published. For a pair within the prefix the draw had them in the other order; for one beyond it, the
    prefix was drawn as it is; for the pair at its end, something else was drawn there and the prefix's last item next.
    """
    k, rows = chosen.shape[1], np.arange(len(chosen))
    shown = chosen >= 0
    weights = np.exp(log_weights(logits, temperature))
    own = np.where(shown, weights[rows[:, None], chosen], 0.0)
    pool = weights.copy()  # what is left after the prefix
    pool[np.nonzero(shown)[0], chosen[shown]] = 0.0
    rest = pool.sum(axis=1, keepdims=True)
    remaining = np.concatenate([rest + np.cumsum(own[:, ::-1], axis=1)[:, ::-1], rest], axis=1)
    pairs = shown.sum(axis=1) - 1
    place = np.arange(k)
    with np.errstate(divide="ignore", invalid="ignore"):
        within = remaining[:, 1:k] / (remaining[:, 2:] + own[:, :-1])
    within = np.where(place[:-1] < pairs[:, None], within, 0.0)
    summed = np.concatenate([np.zeros((len(chosen), 1)), np.cumsum(within, axis=1)], axis=1)
    summed += np.where(place < pairs[:, None], _crossing(weights, chosen, own), 0.0)
    summed += np.maximum(pairs[:, None] - 1 - place, 0)
    mean = np.where(pairs[:, None] > 0, summed / np.maximum(pairs, 1)[:, None], 1.0)
    return np.asarray(np.log((1 - share) + share * mean))


def spread(position: Floats, drawn: Ints, share: float) -> Floats:
    """P(published at each place) [B, m, k], of P(drawn at each place) [B, m, k]; `drawn` [B, k], -1 beyond what is.

    The sum over places stays as it was.
    """
    pairs = (drawn >= 0).sum(axis=1)[:, None] - 1
    moved = np.where(np.arange(position.shape[2] - 1) < pairs, share / np.maximum(pairs, 1), 0.0)[:, None, :]
    flow = moved * np.diff(position, axis=2)  # what the earlier of two neighbours gains and the later one loses
    found = position.copy()
    found[:, :, :-1] += flow
    found[:, :, 1:] -= flow
    return found


def _crossing(weights: Floats, chosen: Ints, own: Floats) -> Floats:
    """Σ over what is left after each prefix of w / (what is left before its last item − w), float64 [B, k]: P(something
    else is drawn there and the prefix's last item after it) / P(that item is drawn there)."""
    rows, found, pool = np.arange(len(chosen)), np.zeros(chosen.shape), weights.copy()
    for place in range(chosen.shape[1]):
        there = np.flatnonzero(chosen[:, place] >= 0)
        pool[there, chosen[there, place]] = 0.0
        # The heaviest apart, so that no denominator comes from a subtraction that cancels.
        top = pool.argmax(axis=1)
        heaviest = pool[rows, top]
        pool[rows, top] = 0.0
        others = own[:, place] + pool.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, place] = (pool / ((others + heaviest)[:, None] - pool)).sum(axis=1) + heaviest / others
        pool[rows, top] = heaviest
    return found
