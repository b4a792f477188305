"""From a log of slates to weights and estimators: probabilities under both policies, a reward model, three families.

Knows nothing of where slates come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from evaluation.ope import bandit, reward_model, slates
from evaluation.ope.ratio import Floats, Ints, mean
from evaluation.ope.report import Settings, Weighted
from evaluation.ope.reward_model import INTERCEPT, Features, RewardModel, bucket
from evaluation.ope.slate_log import SlateLog
from evaluation.ope.slate_policy import SlatePolicy, scaled

TOLERANCE = 1e-6  # between a logged conditional probability and the one that the logged logits give
_AT_ONCE = 64
_ITEM, _SCORE, _POSITION = 1, 2, 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Weights:
    """What estimators need of n slates, float64 [n, k] all; see `slates`."""

    weight: Floats
    prefix: Floats
    predicted: Floats
    expected: Floats
    following: Floats


def unexplained(log: SlateLog, progress: Progress = lambda done, size: None) -> np.ndarray:
    """Whether a slate's logged probabilities are not those of its logged logits, bool [n]: it must not be used."""
    found = np.zeros(len(log), bool)
    for begin in range(0, len(log), _AT_ONCE):
        rows = np.arange(begin, min(begin + _AT_ONCE, len(log)))
        computed = _policy(log, rows, target=False).conditional(log.chosen[rows])
        found[rows] = (np.abs(computed - log.conditional[rows]) > TOLERANCE).any(axis=1)
        progress(begin + len(rows), len(log))
    return found


def selected(log: SlateLog, kept: np.ndarray) -> SlateLog:
    """The slates of a mask, bool [n]."""
    return replace(log, **{one.name: getattr(log, one.name)[kept] for one in fields(SlateLog) if one.name != "size"})


def families(log: SlateLog, settings: Settings, progress: Progress = lambda done, size: None) -> list[Weighted]:
    """Estimators by what rewards may depend on, the strongest assumption first.

    Raises ValueError when all slates are of one user.
    """
    whole_slates = weights(log, progress)
    found = Weights(*(getattr(whole_slates, one.name)[:, : log.size] for one in fields(Weights)))
    reward = log.rewards[:, : log.size]
    parts = found.weight, reward, found.predicted, found.expected
    weight, rewards, predicted, expected = (one.ravel() for one in parts)
    users = np.repeat(log.users, reward.shape[1])
    shrinkage = bandit.chosen_shrinkage(weight, rewards, predicted, expected, users)
    shrunk = bandit.shrunk(found.weight, shrinkage)
    cascade = found.prefix, reward, found.predicted, found.following, found.expected
    whole = found.prefix[:, -1:]
    return [
        Weighted(
            "positions",
            "the context, the item and its position",
            found.weight,
            reward,
            {
                "ips": slates.position_ips(found.weight, reward),
                "snips": slates.position_snips(found.weight, reward),
                "clipped_ips": slates.position_ips(np.minimum(found.weight, settings.clip), reward),
                "dr": slates.position_dr(*parts),
                "dros": slates.position_dr(shrunk, *parts[1:]),
                "direct": mean(found.expected),
            },
            biased={"clipped_ips": "ips", "dros": "dr"},
            plain=("direct",),
        ),
        Weighted(
            "cascade",
            "the context, the item, and what stands above it",
            found.prefix,
            reward,
            {
                "ips": slates.cascade_ips(found.prefix, reward),
                "snips": slates.cascade_snips(found.prefix, reward),
                "dr": slates.cascade_dr(*cascade),
            },
        ),
        Weighted(
            "slates",
            "the context and the whole slate",
            whole,
            reward.sum(axis=1, keepdims=True),
            {"ips": slates.slate_ips(found.prefix, reward), "snips": slates.slate_snips(found.prefix, reward)},
            most=float(reward.shape[1]) * settings.most,
        ),
    ]


def weights(log: SlateLog, progress: Progress = lambda done, size: None) -> Weights:
    """Ratios of probabilities, exact from logged candidates, and predictions of models that have not seen the user."""
    fold = reward_model.folds(log.users)
    models = _models(log, fold)
    found = Weights(*(np.zeros(log.rewards.shape) for _ in fields(Weights)))
    done = 0
    for number, model in models.items():
        mine = np.flatnonzero(fold == number)
        for begin in range(0, len(mine), _AT_ONCE):
            _fill(log, mine[begin : begin + _AT_ONCE], model, found)
            done += len(mine[begin : begin + _AT_ONCE])
            progress(done, len(log))
    return found


def _fill(log: SlateLog, rows: Ints, model: RewardModel, found: Weights) -> None:
    chosen = log.chosen[rows]
    there = chosen >= 0
    logging, target = _policy(log, rows, target=False), _policy(log, rows, target=True)
    ratio = target.conditional(chosen) / np.where(there, logging.conditional(chosen), 1.0)
    found.prefix[rows] = np.cumprod(ratio, axis=1)
    each, k = np.arange(len(rows))[:, None], np.arange(chosen.shape[1])
    whole = target.marginals()
    logged = logging.marginals(chosen)[each, k, k]
    found.weight[rows] = np.where(there, whole[each, chosen, k] / np.where(there, logged, 1.0), 1.0)
    score = model.score(_pairs(log, rows))  # [B, C]
    places = model.weights[bucket(_POSITION, k)]
    for position, following in enumerate(target.following(chosen)):
        predicted = np.where(log.items[rows] >= 0, model.expected(score + places[position]), 0.0)
        shown = there[:, position]
        found.predicted[rows, position] = np.where(shown, predicted[each[:, 0], chosen[:, position]], 0.0)
        found.expected[rows, position] = np.einsum("bc,bc->b", whole[:, :, position], predicted)
        found.following[rows, position] = np.einsum("bc,bc->b", following, predicted)


def _policy(log: SlateLog, rows: Ints, *, target: bool) -> SlatePolicy:
    logits = (log.target_logits if target else log.logits)[rows]
    temperature = (log.target_temperature if target else log.temperature)[rows]
    epsilon = (log.target_epsilon if target else log.epsilon)[rows]
    return SlatePolicy(scaled(logits, temperature), epsilon, log.pinned[rows], log.exchanged[rows])


def _pairs(log: SlateLog, rows: Ints) -> Features:
    """What the reward model is told of a candidate, [B, C, F]: the item, and its score against the slate's best."""
    items, base = log.items[rows], log.base[rows].astype(np.float64)
    shape = items.shape
    below = base - base.max(axis=1, keepdims=True)
    buckets = [
        np.full(shape, INTERCEPT, np.int64),
        bucket(_ITEM, np.maximum(items, 0)),
        bucket(_SCORE, np.zeros(shape, np.int64)),
    ]
    values = [np.ones(shape), np.ones(shape), np.where(np.isfinite(below), np.maximum(below, -10.0), 0.0)]
    return Features(np.stack(buckets, axis=-1), np.stack(values, axis=-1))


def _models(log: SlateLog, fold: Ints) -> dict[int, RewardModel]:
    """Models by fold, of what was shown: the candidate's features and its position."""
    at, k = np.nonzero(log.chosen >= 0)
    pieces = []
    for begin in range(0, len(log), 4096):
        rows = np.arange(begin, min(begin + 4096, len(log)))
        pairs = _pairs(log, rows)
        inside = (at >= begin) & (at < begin + 4096)
        place = at[inside] - begin, log.chosen[at[inside], k[inside]]
        pieces.append((pairs.buckets[place], pairs.values[place]))
    buckets, values = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    shown = Features(np.column_stack([buckets, bucket(_POSITION, k)]), np.column_stack([values, np.ones(len(k))]))
    return reward_model.cross_fitted(shown, log.rewards[at, k], fold[at])
