"""Off-policy estimators of slates: k actions a round, a reward at each position, the value its sum.

What weights are needed depends on what a reward depends on (Kiyohara et al., WSDM 2022, table 1):

| rewards at k depend on | weight of position k | estimators |
|---|---|---|
| the item at k | π(item at k)/p(item at k), the marginals | `position_ips`, `position_dr` |
| the items at 1..k (a user reads downwards) | probabilities of the first k items | `cascade_ips`, `cascade_dr` |
| the whole slate | probabilities of the whole slate | `slate_ips` |

The further down the weaker the assumption, and the larger the weights. `weight` [n, k] are the marginal ratios,
`prefix` [n, k] the ratios of the first j items' probabilities (cumulative products of the conditional ratios). An empty
position has reward 0, prediction 0, marginal ratio 1. Knows nothing of where the arrays come from.
"""

from __future__ import annotations

import numpy as np

from evaluation.ope.ratio import Floats, Ratio, mean, self_normalised


def position_ips(weight: Floats, reward: Floats) -> Ratio:
    """Σ_k mean(w_k r_k): independent IPS of the item-position model (Li et al., KDD 2018)."""
    return mean(weight * reward)


def position_snips(weight: Floats, reward: Floats) -> Ratio:
    """Σ_k (Σ w_k r_k / Σ w_k): the same, self-normalised by position."""
    return self_normalised(weight, reward)


def position_dr(weight: Floats, reward: Floats, predicted: Floats, expected: Floats) -> Ratio:
    """Σ_k mean(E_π[q̂_k] + w_k (r_k - q̂_k)): doubly robust at each position.

    `predicted` [n, k] is q̂_k of the item shown, `expected` [n, k] its mean over π(· at k).
    """
    return mean(expected + weight * (reward - predicted))


def cascade_ips(prefix: Floats, reward: Floats) -> Ratio:
    """Σ_k mean(w_1..k r_k): reward-interaction IPS (McInerney et al., KDD 2020)."""
    return mean(prefix * reward)


def cascade_snips(prefix: Floats, reward: Floats) -> Ratio:
    """Σ_k (Σ w_1..k r_k / Σ w_1..k)."""
    return self_normalised(prefix, reward)


def cascade_dr(prefix: Floats, reward: Floats, predicted: Floats, conditional: Floats, expected: Floats) -> Ratio:
    """Cascade doubly robust (Kiyohara et al., WSDM 2022): Σ_k mean(w_1..k (r_k - Q̂_k) + w_1..k-1 E_π[Q̂_k | a_1..k-1]).

    Q̂_k is to be the reward from k on. Here it is q̂_k of the item shown plus, for what follows, the mean of q̂_l over
    π(· at l), l > k: `predicted` and `expected` as in `position_dr`, `conditional` [n, k] the mean of q̂_k over
    π(· | a_1..k-1). Any Q̂ leaves the estimate unbiased; this one is known exactly from marginals.
    """
    later = np.cumsum(expected[:, ::-1], axis=1)[:, ::-1] - expected
    before = np.concatenate([np.ones((len(prefix), 1)), prefix[:, :-1]], axis=1)
    return mean(prefix * (reward - predicted - later) + before * (conditional + later))


def slate_ips(prefix: Floats, reward: Floats) -> Ratio:
    """mean(w_1..K Σ_k r_k): IPS of the whole slate."""
    return mean(prefix[:, -1] * reward.sum(axis=1))


def slate_snips(prefix: Floats, reward: Floats) -> Ratio:
    """Σ w_1..K Σ_k r_k / Σ w_1..K."""
    return self_normalised(prefix[:, -1], reward.sum(axis=1))
