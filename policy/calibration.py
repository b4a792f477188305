"""Calibration: the categories of a slate in the proportions of the user's own past.

After Steck, "Calibrated recommendations" (RecSys 2018), who re-ranks for a small divergence KL(past ‖ slate). Here the
same aim is a term to add before the draw. Let q be the mix that the logits are about to show, p the past one: a
candidate gets temperature × log(p / q) of its categories, averaged, times `strength`. In a softmax that multiplies the
weight of a category by (p / q)^strength: one step of iterative proportional fitting, which for items of one category
and strength 1 makes the first position's mix equal to p. Arrays only; knows nothing of categories' names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policy.plackett_luce import Floats, log_weights

Floats32 = NDArray[np.float32]
Numbers = NDArray[np.int32]

PRIOR = 5.0
"""The past counts as if so many further events had the mix that the logits show: few events say little."""
MOST = 2.0
"""|log(p / q)| counts as this at most."""


def term(
    logits: Floats32, temperature: Floats, categories: Numbers, past: Numbers, weights: Floats, strength: float
) -> Floats32:
    """What calibration adds, float32 [B, C], 0 without a candidate and for one of no category.

    `logits` [B, C], -inf where there is no candidate; `categories` [B, C, W] of the candidates, `past` [B, H, W] of the
    user's events, -1 where there is none; `weights` [H] of the events.
    """
    names, (here, before) = _renumbered(categories, past)
    shown = mix(np.exp(log_weights(logits, temperature)), here, names)
    counted = np.where((before < names).any(axis=2), weights, 0.0)
    known = counted.sum(axis=1, keepdims=True)
    had = np.where(shown > 0, mix(counted, before, names), 0.0)  # what is no candidate's cannot be had more of
    total = had.sum(axis=1, keepdims=True)
    known = known * (total > 0)
    wanted = (had / np.where(total > 0, total, 1.0) * known + PRIOR * shown) / (known + PRIOR)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(np.log(wanted / shown), nan=0.0, posinf=MOST, neginf=-MOST)
    ratio = np.concatenate([np.clip(ratio, -MOST, MOST), np.zeros((len(ratio), 1))], axis=1)
    each = np.take_along_axis(ratio, here.reshape(len(here), -1), axis=1).reshape(here.shape)
    mean = each.sum(axis=2) / np.maximum((here < names).sum(axis=2), 1)
    added = strength * temperature[:, None] * mean
    return np.where(np.isfinite(logits), added, 0.0).astype(np.float32)


def mix(amounts: Floats, categories: NDArray[np.int64], names: int) -> Floats:
    """Shares of `names` categories in rows of things, float64 [B, names]; each row sums to 1, or is 0.

    `amounts` [B, N] of the things; `categories` [B, N, W], `names` where there is none: a thing's amount is divided
    equally among its categories.
    """
    own = categories < names
    count = own.sum(axis=2)
    part = np.where(own, (amounts / np.maximum(count, 1))[:, :, None], 0.0)
    at = np.arange(len(amounts))[:, None, None] * (names + 1) + categories
    size = len(amounts) * (names + 1)
    summed = np.bincount(at.ravel(), weights=part.ravel(), minlength=size).reshape(len(amounts), names + 1)[:, :names]
    total = summed.sum(axis=1, keepdims=True)
    return np.asarray(summed / np.where(total > 0, total, 1.0))


def _renumbered(*categories: Numbers) -> tuple[int, list[NDArray[np.int64]]]:
    """The categories that occur, numbered from 0 on in the order of their numbers; and beyond them for none."""
    highest = max((int(part.max(initial=-1)) for part in categories), default=-1)
    there = np.zeros(highest + 2, np.bool_)
    for part in categories:
        there[part.ravel()] = True  # none, -1, is the last place
    there[-1] = False
    names = int(there.sum())
    number = np.where(there, np.cumsum(there) - 1, names)
    return names, [number[part] for part in categories]
