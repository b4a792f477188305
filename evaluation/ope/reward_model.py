"""What reward an action may expect: a regularised linear model of sparse features, fitted across folds of users.

Logistic where all rewards lie in [0, 1], ridge elsewhere. Off-policy estimates need predictions for a round from a
model that has not seen its reward, nor any of the same user: `folds` and `cross_fitted` see to it (Chernozhukov et al.,
Econometrics Journal 2018). Knows nothing of policies, nor of what features mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse, special

from evaluation.ope.ratio import Floats, Ints

BUCKETS = 1 << 18
"""Columns of the model. A feature is a bucket and a value; two features may share one, as in any hashed model."""
INTERCEPT = 0
_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Features:
    """Sparse rows: `buckets` int64 [..., F] in [0, BUCKETS) and `values` float64 of the same shape."""

    buckets: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Weights by bucket, and whether the linear score is a log-odds."""

    weights: Floats
    logistic: bool

    def score(self, features: Features) -> Floats:
        """The linear score, in the shape of the features without the last axis; scores of parts may be added."""
        return np.asarray(np.einsum("...f,...f->...", self.weights[features.buckets], features.values))

    def expected(self, score: Floats) -> Floats:
        """The reward that a score stands for."""
        return np.asarray(special.expit(score)) if self.logistic else score


def bucket(field: int, code: NDArray[np.integer]) -> Ints:
    """Bucket of the `code`s of a categorical field; never that of the intercept. SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = code.astype(np.uint64) + np.uint64(field + 1) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed % np.uint64(BUCKETS - 1)).astype(np.int64) + 1


def fit(features: Features, reward: Floats, *, logistic: bool, penalty: float = 1.0) -> RewardModel:
    """Fit to `features` [n, F] and `reward` [n].

    `penalty` is the inverse variance of the normal prior of every weight but the intercept's; for ridge relative to
    the variance of rewards.
    """
    used, column = np.unique(features.buckets, return_inverse=True)
    rows = np.repeat(np.arange(len(reward)), features.buckets.shape[1])
    design = sparse.csr_array(
        (features.values.ravel(), (rows, column.ravel())), shape=(len(reward), len(used)), dtype=np.float64
    )
    penalties = np.where(used == INTERCEPT, 0.0, penalty)
    centre = float(reward.mean())
    start = np.zeros(len(used))
    if logistic:
        start[used == INTERCEPT] = special.logit(np.clip(centre, 1e-6, 1 - 1e-6))
        loss = _logistic_loss(design, reward, penalties)
    else:
        start[used == INTERCEPT] = centre
        loss = _square_loss(design, reward, penalties, float(reward.var()) or 1.0)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    weights = np.zeros(BUCKETS)
    weights[used] = found.x
    return RewardModel(weights, logistic)


Loss = Callable[[Floats], tuple[float, Floats]]


def _logistic_loss(design: sparse.csr_array, reward: Floats, penalties: Floats) -> Loss:
    transposed = design.T.tocsr()

    def loss(weights: Floats) -> tuple[float, Floats]:
        score = design @ weights
        value = float((np.logaddexp(0, score) - reward * score).sum() + 0.5 * (penalties * weights) @ weights)
        return value, transposed @ (special.expit(score) - reward) + penalties * weights

    return loss


def _square_loss(design: sparse.csr_array, reward: Floats, penalties: Floats, variance: float) -> Loss:
    transposed = design.T.tocsr()

    def loss(weights: Floats) -> tuple[float, Floats]:
        residual = design @ weights - reward
        value = float(0.5 * residual @ residual / variance + 0.5 * (penalties * weights) @ weights / variance)
        return value, (transposed @ residual + penalties * weights) / variance

    return loss


def folds(cluster: Ints, count: int = 5, seed: int = 0) -> Ints:
    """The fold of each round, int64 [n]: a user's rounds are all in one, and folds have about as many users each."""
    _, code = np.unique(cluster, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(int(code.max()) + 1)
    return np.asarray(shuffled[code] % count)


def is_logistic(reward: Floats) -> bool:
    """Whether rewards can be probabilities."""
    return bool(reward.min() >= 0 and reward.max() <= 1)


def cross_fitted(features: Features, reward: Floats, fold: Ints, penalty: float = 1.0) -> dict[int, RewardModel]:
    """For each fold the model to predict it with: fitted to all others. With a single fold, ValueError."""
    numbers = np.unique(fold).tolist()
    if len(numbers) < 2:
        raise ValueError("all rounds are of one user: predictions would be of rewards that the model has seen")
    logistic = is_logistic(reward)
    models = {}
    for number in numbers:
        others = fold != number
        part = Features(features.buckets[others], features.values[others])
        models[number] = fit(part, reward[others], logistic=logistic, penalty=penalty)
    return models
