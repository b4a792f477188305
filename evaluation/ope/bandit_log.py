"""A log of single actions as arrays, a target policy as a table of probabilities, and what to make of the two.

Knows no files: `ops.ope_csv` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.ope import bandit, reward_model
from evaluation.ope.ratio import Floats, Ints
from evaluation.ope.report import Settings, Weighted
from evaluation.ope.reward_model import INTERCEPT, Features, bucket

_PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class BanditLog:
    """n rounds: one action each, with the probability that it had.

    Attributes:
        action: int64 [n] codes of `actions`. More actions may be named than were logged: a target may play them.
        position: int64 [n] codes of `positions`; a log without positions has one.
        reward, propensity: float64 [n]; propensity is p(action | context, position).
        cluster: int64 [n], whose each round is.
        categories: int64 [n, F], context as codes; `numbers` float64 [n, G], context as numbers.
    """

    action: Ints
    actions: list[str]
    position: Ints
    positions: list[str]
    reward: Floats
    propensity: Floats
    cluster: Ints
    categories: Ints
    numbers: Floats

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True, slots=True)
class Target:
    """A policy for the rounds of a log: that of round i is `table`[`row`[i]], float64 [T, A]; `row` int64 [n].

    Where only the probability of the logged action is known, it is `logged` [n] and `table` is None: then there is
    no direct method, nor anything doubly robust.
    """

    table: Floats | None
    row: Ints
    logged: Floats

    @classmethod
    def of(cls, table: Floats, row: Ints, action: Ints) -> Target:
        """From whole distributions. Raises ValueError when one does not sum to 1 or has a negative part."""
        if not (np.isfinite(table).all() and (table >= 0).all() and np.allclose(table.sum(axis=1), 1, atol=1e-6)):
            raise ValueError("a row of the target's probabilities is not a distribution: expected ≥ 0, sum 1")
        return cls(table, row, table[row, action])


def uniform(log: BanditLog) -> Target:
    """Every action of the log alike."""
    table = np.full((1, len(log.actions)), 1 / len(log.actions))
    return Target.of(table, np.zeros(len(log), np.int64), log.action)


def empirical(log: BanditLog, counts: Floats) -> Target:
    """Each action as often as `counts` [P, A] or [1, A] says, by position of the log or for all."""
    totals = counts.sum(axis=1, keepdims=True)
    if not (totals > 0).all():
        raise ValueError("a position has no action with a count, expected at least one")
    row = log.position if len(counts) > 1 else np.zeros(len(log), np.int64)
    return Target.of(counts / totals, row, log.action)


def softmax(log: BanditLog, scores: Floats, row: Ints, temperature: float) -> Target:
    """exp(score/temperature), normalised; `scores` [T, A], that of round i `scores`[`row`[i]]."""
    scaled = (scores - scores.max(axis=1, keepdims=True)) / temperature
    weights = np.exp(scaled)
    return Target.of(weights / weights.sum(axis=1, keepdims=True), row, log.action)


def mixed(log: BanditLog, target: Target, epsilon: float) -> Target:
    """(1 - ε) of the target and ε of uniform."""
    if epsilon == 0 or target.table is None:
        return target
    table = (1 - epsilon) * target.table + epsilon / len(log.actions)
    return Target.of(table, target.row, log.action)


def families(log: BanditLog, target: Target, settings: Settings) -> list[Weighted]:
    """All estimators that the log and the target allow. Raises ValueError when all rounds are of one user."""
    weight, reward = target.logged / log.propensity, log.reward
    ratios = {
        "ips": bandit.ips(weight, reward),
        "snips": bandit.snips(weight, reward),
        "clipped_ips": bandit.clipped_ips(weight, reward, settings.clip),
    }
    if target.table is not None:
        predicted, expected = predictions(log, target.table, target.row)
        parts = weight, reward, predicted, expected
        ratios["dr"] = bandit.doubly_robust(*parts)
        ratios["dros"] = bandit.dros(*parts, bandit.chosen_shrinkage(*parts, log.cluster))
        ratios["direct"] = bandit.direct(expected)
    return [
        Weighted(
            "actions",
            "the context and the action",
            weight[:, None],
            reward[:, None],
            ratios,
            biased={"clipped_ips": "ips", "dros": "dr"},
            plain=("direct",),
        )
    ]


def predictions(log: BanditLog, table: Floats, row: Ints) -> tuple[Floats, Floats]:
    """q̂ of the logged action, and its mean over the target, both [n], from models that have not seen the user.

    `table` and `row` as in `Target`.
    """
    fold = reward_model.folds(log.cluster)
    models = reward_model.cross_fitted(features(log, np.arange(len(log)), log.action[:, None], 0), log.reward, fold)
    predicted, expected = np.empty(len(log)), np.empty(len(log))
    actions = np.arange(len(log.actions))[None, :]
    for number, model in models.items():
        for rows in _pieces(np.flatnonzero(fold == number), _PAIRS_AT_ONCE // len(log.actions)):
            all_actions = model.expected(model.score(features(log, rows, actions)))
            predicted[rows] = all_actions[np.arange(len(rows)), log.action[rows]]
            expected[rows] = np.einsum("ia,ia->i", table[row[rows]], all_actions)
    return predicted, expected


def features(log: BanditLog, rows: Ints, actions: Ints, squeeze: int | None = None) -> Features:
    """What the reward model is told of pairs: `actions` int64 [m or 1, a] of `rows` [m], features [m, a, F].

    Position, action, both together; each category of the context alone and with the action; numbers of the context,
    standardised. With `squeeze` only that column, [m, F].
    """
    shape = (len(rows), actions.shape[1])
    action = np.broadcast_to(actions, shape)
    position = np.broadcast_to(log.position[rows, None], shape)
    kinds = [(1, action), (2, position), (3, action * len(log.positions) + position)]
    for field, column in enumerate(log.categories.T):
        value = np.broadcast_to(column[rows, None], shape)
        kinds += [(10 + 2 * field, value), (11 + 2 * field, value * len(log.actions) + action)]
    buckets = [np.full(shape, INTERCEPT, np.int64), *(bucket(*kind) for kind in kinds)]
    values = [np.ones(shape)] * len(buckets)
    for field, column in enumerate(log.numbers.T):
        spread = float(column.std())
        standardised = (column[rows] - column.mean()) / spread if spread > 0 else np.zeros(len(rows))
        buckets.append(bucket(1_000_000 + field, np.zeros(shape, np.int64)))
        values.append(np.broadcast_to(standardised[:, None], shape))
    whole = np.stack(buckets, axis=-1), np.stack(values, axis=-1)
    return Features(*whole) if squeeze is None else Features(whole[0][:, squeeze], whole[1][:, squeeze])


def _pieces(rows: Ints, most: int) -> Iterator[Ints]:
    for begin in range(0, len(rows), max(most, 1)):
        yield rows[begin : begin + max(most, 1)]
