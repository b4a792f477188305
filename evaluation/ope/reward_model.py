"""What reward an action may expect: a regularised linear model of sparse features, fitted across folds of users.

Logistic where all rewards lie in [0, 1], ridge elsewhere. Off-policy estimates need predictions for a round from a
model that has not seen its reward, nor any of the same user: `folds` and `cross_fitted` see to it (Chernozhukov et al.,
Econometrics Journal 2018). Knows nothing of policies, nor of what features mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special
from scipy.sparse import linalg

from evaluation.ope.ratio import Floats, Ints

BUCKETS = 1 << 18
"""Columns of the model. A feature is a bucket and a value; two features may share one, as in any hashed model."""
INTERCEPT = 0
_STEPS = 50
_FLAT = 1e-3  # of the largest reward: the gradient of any weight, when it is good enough


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

    `penalty`: of the squares of all weights but the intercept's, as many rounds are worth; for logistic ones the
    inverse variance of a normal prior.
    """
    used, column = np.unique(features.buckets, return_inverse=True)
    rows = np.repeat(np.arange(len(reward)), features.buckets.shape[1])
    design = sparse.csr_array(
        (features.values.ravel(), (rows, column.ravel())), shape=(len(reward), len(used)), dtype=np.float64
    )
    penalties = np.where(used == INTERCEPT, 0.0, penalty)
    centre = float(reward.mean())
    start = np.zeros(len(used))
    start[used == INTERCEPT] = special.logit(np.clip(centre, 1e-6, 1 - 1e-6)) if logistic else centre
    weights = np.zeros(BUCKETS)
    weights[used] = _newton(design, reward, penalties, start, logistic)
    return RewardModel(weights, logistic)


def _newton(design: sparse.csr_array, reward: Floats, penalties: Floats, start: Floats, logistic: bool) -> Floats:
    """Truncated Newton: each step by preconditioned conjugate gradients, halved while it does not help (Lin, Weng and
    Keerthi, JMLR 2008). The loss is convex, so that where it starts decides nothing."""
    transposed, squares = design.T.tocsr(), design.multiply(design).T.tocsr()
    weights = start

    def loss(weights: Floats) -> float:
        score = design @ weights
        each = np.logaddexp(0, score) - reward * score if logistic else 0.5 * (score - reward) ** 2
        return float(each.sum() + 0.5 * penalties @ weights**2)

    now = loss(weights)
    for _ in range(_STEPS):
        score = design @ weights
        mean = special.expit(score) if logistic else score
        gradient = transposed @ (mean - reward) + penalties * weights
        if np.abs(gradient).max() <= _FLAT * max(np.abs(reward).max(), 1e-12):
            break
        curvature = mean * (1 - mean) if logistic else np.ones(len(reward))
        step = _solved(design, transposed, curvature, penalties, squares @ curvature + penalties, -gradient)
        factor = 1.0
        while (then := loss(weights + factor * step)) > now and factor > 1e-6:
            factor /= 2
        weights, now = weights + factor * step, then
    return weights


def _solved(
    design: sparse.csr_array,
    transposed: sparse.csr_array,
    curvature: Floats,
    penalties: Floats,
    diagonal: Floats,
    right: Floats,
) -> Floats:
    """x with (Xᵀ diag(curvature) X + diag(penalties)) x = right, to a tenth."""

    def product(vector: Floats) -> Floats:
        return np.asarray(transposed @ (curvature * (design @ vector)) + penalties * vector)

    size = (len(right), len(right))
    hessian = linalg.LinearOperator(size, product, dtype=np.float64)
    scaling = linalg.LinearOperator(size, lambda vector: vector / np.maximum(diagonal, 1e-12), dtype=np.float64)
    found, _ = linalg.cg(hessian, right, rtol=0.1, maxiter=200, M=scaling)
    return np.asarray(found)


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
