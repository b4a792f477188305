"""Outcomes of slates that a known policy drew, for the tests of those who learn from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from policy import mixture
from policy.slate import PolicyConfig, arrange, noise
from streams.contracts import Outcome

START = 1_700_000_000_000
POLICY = PolicyConfig(k=10, candidates=50, injected=2, temperature=0.35, epsilon=0.02)


def slates(
    count: int, seed: int, items: int = 200, batch: int = 100, flip: int | None = None
) -> Iterator[tuple[Outcome, list[str], NDArray[np.float64]]]:
    """Yield an outcome, and what it does not tell: all candidates with their inclusion probabilities.

    From slate `flip` on, a multiple of `batch`, what was worst is best.
    """
    random = np.random.default_rng(seed)
    quality = random.normal(0, 0.5, items)
    for first in range(0, count, batch):
        if first == flip:
            quality = -quality
        columns = np.argsort(random.random((batch, items)), axis=1)[:, : POLICY.width]
        logits = (quality[columns] + random.normal(0, 0.2, columns.shape)).astype(np.float32)
        hashes = columns.astype(np.uint64)
        choice = arrange(POLICY, logits, hashes, noise(POLICY, seed, first + np.arange(batch)))
        inclusion = mixture.marginals(logits, POLICY.k, POLICY.temperature, POLICY.epsilon)[1]
        for row in range(min(batch, count - first)):
            number = first + row
            assert choice.unshown is not None
            shown, unshown = choice.chosen[row], choice.unshown[row]
            names = [f"item{column}" for column in columns[row].tolist()]
            outcome = Outcome(
                user=f"u{number % 37}",
                slate=f"0-{number}",
                time=START + number * 20_000,
                closed=START + number * 20_000 + 1,
                reason="window",
                origin="driftline",
                shown=True,
                items=[names[at] for at in shown],
                rewards=[0.0] * len(shown),
                conditional=None,
                propensity=None,
                inclusion=inclusion[row, shown].tolist(),
                unshown=[names[at] for at in unshown],
                unshown_inclusion=inclusion[row, unshown].tolist(),
                candidates=POLICY.width,
                history=number // 37,
                release="r1",
                estimator=None,
            )
            yield outcome, names, inclusion[row]


def outcomes(count: int, seed: int = 0) -> list[Outcome]:
    return [outcome for outcome, _, _ in slates(count, seed)]
