"""Probabilities of slates, by enumerating every slate: temperatures and ε by row, pins, short rows."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from evaluation.ope.slate_policy import SlatePolicy, scaled

K = 3
LOGITS = np.array([[0.3, -1.0, 2.0, 0.5, 0.0], [1.0, 1.5, -np.inf, -np.inf, 0.2], [0.1, 0.2, 0.3, 0.4, 0.5]])
EPSILON = np.array([0.2, 0.0, 0.2])
TEMPERATURE = np.array([0.5, 2.0, 1.0])
PINNED = np.array([[-1, -1, -1], [-1, -1, -1], [-1, 3, -1]])  # the last row always shows column 3 at position 2
POLICY = SlatePolicy(scaled(LOGITS, TEMPERATURE), EPSILON, PINNED)


def every_slate(row: int) -> list[tuple[tuple[int, ...], list[float]]]:
    """All slates of a row with the probabilities of their first 1, 2 … items, by the definition of the mixture."""
    there = np.flatnonzero(np.isfinite(LOGITS[row]))
    pins = {k: column for k, column in enumerate(PINNED[row]) if column >= 0}
    free = [column for column in there if column not in pins.values()]
    weight = np.exp(LOGITS[row] / TEMPERATURE[row])
    found = []
    for order in permutations(free, min(K - len(pins), len(free))):
        left, softmax, uniform, products, shown = list(free), 1.0, 1.0, [], []
        drawn = iter(order)
        for k in range(min(K, len(there))):
            if k in pins:
                shown.append(int(pins[k]))
            else:
                shown.append(int(next(drawn)))
                softmax *= weight[shown[-1]] / weight[left].sum()
                uniform /= len(left)
                left.remove(shown[-1])
            products.append((1 - EPSILON[row]) * softmax + EPSILON[row] * uniform)
        found.append((tuple(shown), products))
    return found


@pytest.mark.parametrize("row", [0, 1, 2])
def test_every_probability_is_that_of_the_enumeration(row: int) -> None:
    one = SlatePolicy(POLICY.scaled[[row]], EPSILON[[row]], PINNED[[row]])
    position, slates = np.zeros((5, K)), every_slate(row)
    assert sum(products[-1] for _, products in slates) == pytest.approx(1)
    for shown, products in slates:
        chosen = np.array([[*shown, *[-1] * (K - len(shown))]])
        position[list(shown), range(len(shown))] += products[-1]
        assert np.cumprod(one.conditional(chosen)[0])[: len(shown)] == pytest.approx(products)
        for k, following in enumerate(one.following(chosen)):
            if k < len(shown):
                before = products[k - 1] if k else 1.0
                assert following[0, shown[k]] == pytest.approx(products[k] / before)
                assert following.sum() == pytest.approx(1)
    assert one.marginals()[0] == pytest.approx(position, abs=1e-8)
    some = np.array([[4, -1, 0]])
    assert one.marginals(some)[0] == pytest.approx(np.stack([position[4], np.zeros(K), position[0]]), abs=1e-8)


def test_rows_keep_to_themselves_in_a_batch() -> None:
    chosen = np.array([[2, 0, 4], [1, 4, 0], [4, 3, 1]])
    alone = [SlatePolicy(POLICY.scaled[[at]], EPSILON[[at]], PINNED[[at]]) for at in range(3)]
    conditional = np.concatenate([one.conditional(chosen[[at]]) for at, one in enumerate(alone)])
    assert POLICY.conditional(chosen) == pytest.approx(conditional)
    assert POLICY.marginals() == pytest.approx(np.concatenate([one.marginals() for one in alone]))
    each = [one.following(chosen[[at]]) for at, one in enumerate(alone)]
    both = [np.concatenate(rows) for rows in zip(*each, strict=True)]
    for mine, theirs in zip(POLICY.following(chosen), both, strict=True):
        assert mine == pytest.approx(theirs)


def test_a_slate_that_breaks_a_pin_has_no_probability() -> None:
    one = SlatePolicy(POLICY.scaled[[2]], EPSILON[[2]], PINNED[[2]])
    assert one.conditional(np.array([[4, 1, 0]]))[0, 1] == 0
    assert one.conditional(np.array([[4, 3, 0]]))[0, 1] == 1
