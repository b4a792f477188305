from __future__ import annotations

import numpy as np

from policy.diversity import deductions
from policy.plackett_luce import Ints


def by_hand(logits: np.ndarray, vectors: np.ndarray, k: int, weight: float) -> np.ndarray:
    """The greedy pass over one row, as it is described."""
    taken: list[int] = []
    owed = np.zeros(len(logits))
    shortlist = np.argsort(-logits)[: 2 * k]
    there = [at for at in range(len(logits)) if np.isfinite(logits[at])]
    for _ in range(min(k, len(there))):
        for at in there:
            if at not in taken:
                owed[at] = max([0.0, *(float(vectors[at] @ vectors[other]) for other in taken)])
        best = max(
            (at for at in there if at not in taken and at in shortlist), key=lambda at: logits[at] - weight * owed[at]
        )
        taken.append(best)
    for at in there:
        if at not in taken:
            owed[at] = max([0.0, *(float(vectors[at] @ vectors[other]) for other in taken)])
    return np.where(np.isfinite(logits), -weight * owed, 0)


def scene(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, columns)).astype(np.float32)
    logits[random.random(logits.shape) < 0.15] = -np.inf
    vectors = random.normal(size=(rows, columns, 6)).astype(np.float32)
    return logits, vectors / np.linalg.norm(vectors, axis=2, keepdims=True)


def test_deductions_are_those_of_the_greedy_pass() -> None:
    logits, vectors = scene(40, 18)
    added = deductions(logits, vectors, 5, 0.8)
    for row in range(40):
        np.testing.assert_allclose(added[row], by_hand(logits[row], vectors[row], 5, 0.8), atol=1e-5)
    np.testing.assert_allclose(deductions(logits, 3 * vectors, 5, 0.8, length=3.0), added, atol=1e-5)


def test_rows_do_not_depend_on_each_other() -> None:
    logits, vectors = scene(16, 30)
    together = deductions(logits, vectors, 4, 0.5)
    for row in range(16):
        alone = deductions(logits[row : row + 1], vectors[row : row + 1], 4, 0.5)
        np.testing.assert_array_equal(together[row], alone[0])


def test_the_best_slate_gets_more_various() -> None:
    logits, vectors = scene(60, 40, seed=3)

    def likeness(chosen: Ints) -> float:
        own = np.take_along_axis(vectors, chosen[:, :, None], axis=1)
        return float(np.matmul(own, own.swapaxes(1, 2))[:, *np.triu_indices(5, 1)].mean())

    def best(scores: np.ndarray) -> Ints:
        return np.argsort(-scores, axis=1)[:, :5]

    alike = [likeness(best(logits + deductions(logits, vectors, 5, weight))) for weight in (0.0, 0.5, 2.0)]
    assert alike[0] > alike[1] > alike[2]


def test_rows_with_few_or_no_candidates() -> None:
    logits = np.array([[-np.inf] * 4, [1.0, -np.inf, -np.inf, -np.inf]], np.float32)
    assert not deductions(logits, np.ones((2, 4, 3), np.float32), 3, 1.0).any()
